/**
 * Finds a Redis server to start, or fetches one without root.
 *
 * Tried in this order: REDIS_SERVER_BIN; REDIS_SERVER_IMAGE, a docker image to take the server from; redis-server or
 * valkey-server on PATH and in the places brew and `make install` use; what an earlier run has put into the cache folder;
 * and, where downloads are allowed, on Debian and Ubuntu the distribution's own packages, unpacked into the cache folder,
 * then the server out of the docker image of Redis, if a docker daemon answers.
 * JavaScript without dependencies, because the launcher of this repository runs it before anything is installed.
 */
import { existsSync, readdirSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { isExecutable, reasonOf, run, runs } from './command.js'
import { distribution, hasDebianPackages, unpackDebianPackages } from './debian-packages.js'
import { defaultCacheDir, fill, libraryFolders, wrapServer } from './server-folder.js'

/** @typedef {import('./types.js').Server} Server */
/** @typedef {import('./types.js').FoundServer} FoundServer */
/** @typedef {{ cacheDir: string, download: boolean, log: (line: string) => void }} FetchOptions */

const NAMES = ['redis-server', 'valkey-server']
const USUAL_PLACES = [
  '/usr/local/bin',
  '/usr/bin',
  '/opt/homebrew/bin',
  '/home/linuxbrew/.linuxbrew/bin',
  '/opt/local/bin',
]
/** In Debian `redis-tools` holds the binary, and `redis-server` the link that gives it its name. */
const PACKAGES = ['redis-tools', 'redis-server']
const MIN_VERSION = /** @type {const} */ ([6, 2])
const DOCKER_IMAGE = 'redis:7'
/** Programs in a folder of the cache that run the server there. */
const IMAGE_WRAPPER = 'redis-server-of-image'
export const SUITE_WRAPPER = 'redis-server-of-suite'
const PULL_TIMEOUT_MS = 600_000
const NOT_ASKED = 'not fetched yet, and this run may not download'

export const WAYS = `No Redis server was found. Any one of these will do:
  - put redis-server or valkey-server (6.2 or newer) on PATH: apt install redis-server, brew install redis,
    apk add redis, ...
  - set REDIS_SERVER_BIN to the path of such a binary
  - on Debian or Ubuntu: let a package mirror be reachable; nothing is installed, the distribution's package is
    unpacked into a cache folder (XDG_CACHE_HOME says where)
  - on Linux: let a docker daemon be running that this user may talk to; the server is copied out of its image`

/**
 * @param {import('./types.js').FindOptions} [options]
 * @returns {FoundServer}
 * @throws an Error naming every way that would work, and what was tried.
 */
export function findRedisServer({
  cacheDir = defaultCacheDir(),
  usualPlaces = USUAL_PLACES,
  log = () => {},
  download = true,
  version,
} = {}) {
  const { REDIS_SERVER_BIN: named, REDIS_SERVER_IMAGE: image } = process.env
  const fetching = { cacheDir, download, log }
  if (named) return demand('REDIS_SERVER_BIN', { bin: named, env: libraryPathFromEnv() }, version)
  if (image) return demand('REDIS_SERVER_IMAGE', fromImage(image, fetching), version)
  const wantedImage = version === undefined ? DOCKER_IMAGE : `redis:${version}`
  /** @type {[string, () => readonly Server[] | string][]} */
  const ways = [
    ['PATH', () => onPath(usualPlaces)],
    ['cache folder', () => inCache(cacheDir)],
    ['distribution packages', () => listed(unpacked(fetching))],
    ['docker', () => listed(fromImage(wantedImage, fetching))],
  ]
  const tried = []
  for (const [how, find] of ways) {
    const found = find()
    if (typeof found === 'string') tried.push(`${how}: ${found}`)
    for (const server of typeof found === 'string' ? [] : found) {
      const answer = versionOf(server, version)
      if ('text' in answer) return { ...server, how, version: answer.text }
      tried.push(`${how}: ${answer.why}`)
    }
  }
  throw new Error(`${WAYS}\n\nTried:\n${tried.map((line) => `  - ${line}`).join('\n')}`)
}

/**
 * For what the user asked for by name: no other server will do.
 * @param {string} variable
 * @param {Server | string} found
 * @param {string | undefined} wanted
 * @returns {FoundServer}
 */
function demand(variable, found, wanted) {
  const version = typeof found === 'string' ? { why: found } : versionOf(found, wanted)
  if (typeof found === 'string' || 'why' in version) {
    throw new Error(
      `${variable}=${process.env[variable]} does not work: ${'why' in version ? version.why : ''}`,
    )
  }
  return { ...found, how: variable, version: version.text }
}

/** @param {Server | string} found */
function listed(found) {
  return typeof found === 'string' ? found : [found]
}

/**
 * @param {readonly string[]} usualPlaces
 * @returns {readonly Server[] | string}
 */
function onPath(usualPlaces) {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter).filter(Boolean), ...usualPlaces]
  const found = [...new Set(folders)]
    .flatMap((folder) => NAMES.map((name) => join(folder, name)))
    .filter(isExecutable)
  return found.length > 0 ? found.map((bin) => ({ bin, env: {} })) : `neither ${NAMES.join(' nor ')} there`
}

/**
 * What was fetched before, by this run or by another: the distribution's own first.
 * @param {string} cacheDir
 * @returns {readonly Server[] | string}
 */
function inCache(cacheDir) {
  const own = packagesFolder(cacheDir)
  const wrappers = (existsSync(cacheDir) ? readdirSync(cacheDir).sort() : [])
    .filter((name) => name.endsWith(`-${process.arch}`))
    .flatMap((name) => [IMAGE_WRAPPER, SUITE_WRAPPER].map((wrapper) => join(cacheDir, name, wrapper)))
    .filter(isExecutable)
  const found = [
    ...(existsSync(own.bin) ? [serverOf(own)] : []),
    ...wrappers.map((bin) => ({ bin, env: {} })),
  ]
  return found.length > 0 ? found : `no server in ${cacheDir}`
}

/** @param {string} cacheDir */
function packagesFolder(cacheDir) {
  const target = join(cacheDir, `${distribution()}-${process.arch}`)
  return { target, bin: join(target, 'usr/bin/redis-server') }
}

/**
 * @param {{ target: string, bin: string }} folder
 * @returns {Server}
 */
function serverOf({ target, bin }) {
  return { bin, env: { LD_LIBRARY_PATH: libraryFolders(target).join(delimiter) } }
}

/**
 * Unpacks the distribution's packages into the cache.
 * @param {FetchOptions} options
 * @returns {Server | string}
 */
function unpacked({ cacheDir, download, log }) {
  if (!hasDebianPackages()) return 'no apt-get and dpkg here'
  const folder = packagesFolder(cacheDir)
  if (!existsSync(folder.bin)) {
    if (!download) return NOT_ASKED
    log("No redis-server on PATH: unpacking the distribution's package into a cache folder, once ...")
    const why = fill({ ...folder, cacheDir }, (root, scratch) =>
      unpackDebianPackages(() => PACKAGES, { root, scratch }),
    )
    if (why) return why
  }
  return serverOf(folder)
}

/**
 * Copies the server out of an image, with the libraries it was built against, and runs it with the loader from there.
 * Running it in a container would hide it behind another process, which tests could neither kill nor stop.
 * @param {string} image
 * @param {FetchOptions} options
 * @returns {Server | string}
 */
function fromImage(image, { cacheDir, download, log }) {
  if (process.platform !== 'linux') return 'only on Linux'
  const target = join(cacheDir, `image-${image.replace(/[^\w.-]/g, '-')}-${process.arch}`)
  const bin = join(target, IMAGE_WRAPPER)
  if (!existsSync(bin)) {
    if (!download) return NOT_ASKED
    if (!runs('docker', ['version', '--format', '{{.Server.Version}}'])) return 'no docker daemon answers'
    log(`Copying the Redis server out of the docker image ${image} into a cache folder, once ...`)
    const why = fill({ target, bin, cacheDir }, (root, scratch) => {
      const container = run('docker', ['create', image], { timeout: PULL_TIMEOUT_MS }).trim()
      const archive = join(scratch, 'image.tar')
      try {
        run('docker', ['export', '--output', archive, container])
      } finally {
        run('docker', ['rm', container])
      }
      run('tar', ['-x', '-f', archive, '-C', root, '--exclude=dev', '--exclude=usr/share'])
      wrapServer({ root, target, names: NAMES, folder: 'usr/local/bin', wrapper: IMAGE_WRAPPER })
    })
    if (why) return why
  }
  return { bin, env: {} }
}

/**
 * The version, or why the server is of no use.
 * @param {Server} server
 * @param {string} [wanted]
 * @returns {{ text: string } | { why: string }}
 */
export function versionOf({ bin, env }, wanted) {
  try {
    const answer = run(bin, ['--version'], { env: { ...process.env, ...env } })
    const [, text, major, minor] = /v=((\d+)\.(\d+)\S*)/.exec(answer) ?? []
    if (text === undefined) return { why: `${bin} --version answered ${JSON.stringify(answer.slice(0, 80))}` }
    const isTooOld =
      Number(major) < MIN_VERSION[0] || (Number(major) === MIN_VERSION[0] && Number(minor) < MIN_VERSION[1])
    if (isTooOld)
      return { why: `${bin} is version ${text}; ${MIN_VERSION.join('.')} is the oldest that works` }
    const isWanted = wanted === undefined || `${text}.`.startsWith(`${wanted}.`)
    return isWanted ? { text } : { why: `${bin} is version ${text}, and ${wanted} is wanted` }
  } catch (error) {
    return { why: `${bin} does not run: ${reasonOf(error)}` }
  }
}

/** What an outer process found for this binary: the launcher hands both on to the tests. */
function libraryPathFromEnv() {
  const path = process.env['REDIS_SERVER_LIBRARY_PATH']
  /** @type {Record<string, string>} */
  const env = path ? { LD_LIBRARY_PATH: path } : {}
  return env
}

/**
 * The environment that makes `findRedisServer` in a child process return what was found here.
 * @param {Server} found
 * @returns {Record<string, string>}
 */
export function asEnv(found) {
  const libraries = found.env['LD_LIBRARY_PATH']
  return { REDIS_SERVER_BIN: found.bin, ...(libraries ? { REDIS_SERVER_LIBRARY_PATH: libraries } : {}) }
}
