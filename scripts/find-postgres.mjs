/**
 * Finds a PostgreSQL server for the tests, or fetches one without root, as a Redis server is found.
 *
 * Tried in this order: POSTGRES_BIN_DIR; PATH; the folders where distributions and brew put it; the cache folder. With
 * `download` also the packages of Debian and Ubuntu, unpacked into the cache folder.
 *
 * PostgreSQL refuses to run as root. Then it runs as the user postgres or nobody, who must be able to read its folder: so the
 * cache of root is /var/cache, because nobody else may enter root's home.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { isExecutable, run } from '../packages/testing/src/server/command.js'
import {
  distribution,
  hasDebianPackages,
  unpackDebianPackages,
} from '../packages/testing/src/server/debian-packages.js'
import { defaultCacheDir, fill, libraryFolders } from '../packages/testing/src/server/server-folder.js'

const PROGRAMS = ['postgres', 'initdb']
/** Folders that hold one folder for each version. */
const OF_VERSIONS = ['/usr/lib/postgresql', '/usr/pgsql', '/opt/homebrew/opt', '/usr/local/opt']
/** Only the compiler of queries needs it, and it is larger than all the rest. */
const EXCEPT = /^libllvm/
const ROOT_CACHE = '/var/cache/redis-stream-client'

/**
 * Where the programs are and what they need; throws why there is none. `places`: folders that are searched after PATH.
 * @returns {{ binDir: string, libraryPath: string, how: string }}
 */
export function findPostgres({ download = false, log = () => {}, places = usualPlaces() } = {}) {
  const named = process.env.POSTGRES_BIN_DIR
  if (named) {
    if (!isComplete(named)) throw new Error(`POSTGRES_BIN_DIR=${named} holds no ${PROGRAMS.join(' and ')}`)
    return { binDir: named, libraryPath: process.env.POSTGRES_LIBRARY_PATH ?? '', how: 'POSTGRES_BIN_DIR' }
  }
  const installed = [...(process.env.PATH ?? '').split(delimiter), ...places].find(isComplete)
  if (installed !== undefined) return { binDir: installed, libraryPath: '', how: 'installed' }
  const cacheDir = isRoot() && !process.env.XDG_CACHE_HOME ? ROOT_CACHE : defaultCacheDir()
  const target = join(cacheDir, `postgresql-${distribution()}-${process.arch}`)
  if (binDirIn(target) === undefined) {
    if (!download) throw new Error(`neither on PATH nor in the usual places nor in ${cacheDir}`)
    fetch(target, cacheDir, log)
  }
  return {
    binDir: binDirIn(target),
    libraryPath: libraryFolders(target).join(delimiter),
    how: 'cache folder',
  }
}

/** The account as which the server has to run: null for that of this process. Throws if there is none. */
export function accountOfServer() {
  if (!isRoot()) return null
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const [, , uid, gid] = lines.find((line) => line.startsWith(`${name}:`))?.split(':') ?? []
    if (uid !== undefined && gid !== undefined) return { uid: Number(uid), gid: Number(gid) }
  }
  throw new Error('PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody')
}

function fetch(target, cacheDir, log) {
  if (!hasDebianPackages()) throw new Error('not installed, and no apt-get and dpkg here to fetch it with')
  log("No PostgreSQL: unpacking the distribution's package into a cache folder, once ...")
  // The folder is whole when its mark is there: the place of the programs depends on the version.
  const mark = join(target, 'usr/lib/postgresql')
  const why = fill({ target, bin: mark, cacheDir }, (root, scratch) =>
    unpackDebianPackages(serverPackages, { root, scratch, except: EXCEPT }),
  )
  if (why) throw new Error(why)
}

/** `postgresql` stands for the version of the distribution. */
function serverPackages(aptOptions) {
  const depends = run('apt-cache', [...aptOptions, 'depends', '--important', 'postgresql'])
  const server = /Depends: (postgresql-\d+)/.exec(depends)?.[1]
  if (server === undefined) throw new Error('the distribution has no package of PostgreSQL')
  return [server]
}

function binDirIn(folder) {
  const versions = join(folder, 'usr/lib/postgresql')
  return binDirs(versions).find(isComplete)
}

function usualPlaces() {
  return [...OF_VERSIONS.flatMap(binDirs), '/usr/local/pgsql/bin', '/usr/libexec/postgresql']
}

/** The newest first. */
function binDirs(folder) {
  if (!existsSync(folder)) return []
  const names = readdirSync(folder).filter((name) => /^(postgresql@?)?\d*$/.test(name))
  const numberOf = (name) => Number(/\d+$/.exec(name)?.[0] ?? 0)
  return names.sort((a, b) => numberOf(b) - numberOf(a)).map((name) => join(folder, name, 'bin'))
}

function isComplete(folder) {
  return PROGRAMS.every((name) => isExecutable(join(folder, name)))
}

function isRoot() {
  return process.getuid?.() === 0
}
