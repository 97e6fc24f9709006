/** Folders of the cache, each with a server taken from elsewhere and the libraries it was built against. */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { isExecutable, reasonOf } from './command.js'

const LOADER = /\/ld-(linux|musl|\d)[^/]*$/

/** Where fetched servers are kept between runs. */
export function defaultCacheDir() {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'redis-stream-client')
}

/**
 * Makes a folder of the cache, which appears under its name only when it is whole. Returns what went wrong, if so.
 * Two runs may do so at the same time: the second keeps what the first has put there, because it may be in use already.
 * @param {{ target: string, bin: string, cacheDir: string }} folder `bin` is what makes it whole.
 * @param {(root: string, scratch: string) => void} write
 * @returns {string | undefined}
 */
export function fill({ target, bin, cacheDir }, write) {
  /** @type {string | undefined} */
  let scratch
  try {
    mkdirSync(cacheDir, { recursive: true })
    scratch = mkdtempSync(join(cacheDir, 'fetch-'))
    const root = join(scratch, 'root')
    mkdirSync(root)
    write(root, scratch)
    if (existsSync(bin)) return undefined
    rmSync(target, { recursive: true, force: true }) // left there without a server in it
    renameSync(root, target)
    return undefined
  } catch (error) {
    return existsSync(bin) ? undefined : `${reasonOf(error)} (cache folder: ${cacheDir})`
  } finally {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true })
  }
}

/**
 * Writes `<root>/<wrapper>`: a program that runs the server with the loader and the libraries beside it, whatever the
 * system's own are. All paths in it are those after `root` has become `target`.
 * @param {{ root: string, target: string, names: readonly string[], folder: string, wrapper: string }} options
 */
export function wrapServer({ root, target, names, folder, wrapper }) {
  const folders = libraryFolders(root)
  const server = names.map((name) => join(root, folder, name)).find(isExecutable)
  const loader = folders.flatMap((each) => filesIn(each)).find((file) => LOADER.test(file))
  if (server === undefined || loader === undefined) throw new Error('there is no server in it, or no loader')
  const inTarget = (/** @type {string} */ path) => `'${path.replace(root, target)}'`
  const libraryPath = folders.map((each) => each.replace(root, target)).join(delimiter)
  const command = `${inTarget(loader)} --library-path '${libraryPath}' ${inTarget(server)} "$@"`
  writeFileSync(join(root, wrapper), `#!/bin/sh\nexec ${command}\n`)
  chmodSync(join(root, wrapper), 0o755)
}

/** @param {string} root */
export function libraryFolders(root) {
  const folders = ['usr/local/lib', 'usr/lib', 'lib'].map((name) => join(root, name)).filter(existsSync)
  return folders.flatMap((folder) => [
    folder,
    ...readdirSync(folder)
      .filter((name) => name.includes('-linux-gnu'))
      .map((name) => join(folder, name)),
  ])
}

/**
 * The regular files in a folder; links of an image may lead out of it.
 * @param {string} folder
 */
function filesIn(folder) {
  return readdirSync(folder)
    .map((name) => join(folder, name))
    .filter((file) => lstatSync(file).isFile())
}
