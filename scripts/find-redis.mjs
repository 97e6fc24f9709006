/**
 * Finds a Redis server to start, or fetches one without root.
 *
 * Tried in this order: REDIS_SERVER_BIN; REDIS_SERVER_IMAGE, a docker image to take the server from; redis-server or
 * valkey-server on PATH and in the places brew and `make install` use; on Debian and Ubuntu the distribution's own
 * packages, unpacked into a cache folder; the server out of the docker image of Redis, if a docker daemon answers.
 * Plain Node without dependencies, because it runs before anything is installed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { isExecutable, reasonOf, run, runs } from './command.mjs'
import { defaultCacheDir, fill, libraryFolders, wrapServer } from './server-folder.mjs'

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
/** Libraries that every system has, and that must match the system's own. */
const SYSTEM_LIBRARIES = /^lib(c6|gcc|stdc)/
const MIN_VERSION = [6, 2]
const DOCKER_IMAGE = 'redis:7'
const WRAPPER = 'redis-server-of-image'
const PULL_TIMEOUT_MS = 600_000

export const WAYS = `No Redis server was found. Any one of these will do:
  - put redis-server or valkey-server (6.2 or newer) on PATH: apt install redis-server, brew install redis,
    apk add redis, ...
  - set REDIS_SERVER_BIN to the path of such a binary
  - on Debian or Ubuntu: let a package mirror be reachable; nothing is installed, the distribution's package is
    unpacked into a cache folder (XDG_CACHE_HOME says where)
  - on Linux: let a docker daemon be running that this user may talk to; the server is copied out of its image`

/**
 * @param {{ cacheDir?: string, usualPlaces?: string[], log?: (line: string) => void }} [options]
 *   `usualPlaces` are searched after PATH.
 * @returns {{ bin: string, env: Record<string, string>, how: string, version: string }}
 *   `env` is what the binary needs beside the caller's environment.
 * @throws an Error naming every way that would work, and what was tried.
 */
export function findRedisServer({
  cacheDir = defaultCacheDir(),
  usualPlaces = USUAL_PLACES,
  log = () => {},
} = {}) {
  const tried = []
  const { REDIS_SERVER_BIN: named, REDIS_SERVER_IMAGE: image } = process.env
  if (named) return demand('REDIS_SERVER_BIN', { bin: named, env: libraryPathFromEnv() })
  if (image) return demand('REDIS_SERVER_IMAGE', fromImage(image, cacheDir, log))
  for (const [how, find] of [
    ['PATH', () => onPath(usualPlaces)],
    ['distribution packages', () => unpacked(cacheDir, log)],
    ['docker', () => fromImage(DOCKER_IMAGE, cacheDir, log)],
  ]) {
    const found = find()
    const version = typeof found === 'string' ? { why: found } : versionOf(found)
    if (version.text) return { ...found, how, version: version.text }
    tried.push(`${how}: ${version.why}`)
  }
  throw new Error(`${WAYS}\n\nTried:\n${tried.map((line) => `  - ${line}`).join('\n')}`)
}

/** For what the user asked for by name: no other server will do. */
function demand(variable, found) {
  const version = typeof found === 'string' ? { why: found } : versionOf(found)
  if (!version.text) throw new Error(`${variable}=${process.env[variable]} does not work: ${version.why}`)
  return { ...found, how: variable, version: version.text }
}

function onPath(usualPlaces) {
  const folders = [...(process.env.PATH ?? '').split(delimiter).filter(Boolean), ...usualPlaces]
  for (const folder of folders) {
    for (const name of NAMES) {
      const bin = join(folder, name)
      if (isExecutable(bin)) return { bin, env: {} }
    }
  }
  return `neither ${NAMES.join(' nor ')} there`
}

/** Unpacks the distribution's packages into the cache; a second run finds them there. */
function unpacked(cacheDir, log) {
  if (process.platform !== 'linux' || !runs('apt-get', ['--version']) || !runs('dpkg', ['--version'])) {
    return 'no apt-get and dpkg here'
  }
  const target = join(cacheDir, `${distribution()}-${process.arch}`)
  const bin = join(target, 'usr/bin/redis-server')
  if (!existsSync(bin)) {
    log("No redis-server on PATH: unpacking the distribution's package into a cache folder, once ...")
    const why = fill({ target, bin, cacheDir }, (root, scratch) => {
      downloadPackages(scratch)
      for (const name of readdirSync(scratch).filter((file) => file.endsWith('.deb'))) {
        run('dpkg', ['-x', join(scratch, name), root])
      }
    })
    if (why) return why
  }
  return { bin, env: { LD_LIBRARY_PATH: libraryFolders(target).join(delimiter) } }
}

/** Downloads with the system's package lists or, where they are missing or old, with lists of our own. */
function downloadPackages(scratch) {
  try {
    downloadWith([], scratch)
  } catch (systemError) {
    const state = join(scratch, 'apt')
    for (const folder of ['lists/partial', 'cache/archives/partial']) {
      mkdirSync(join(state, folder), { recursive: true })
    }
    // A configuration file, because only `#clear` removes hooks: they would act on the state of the machine.
    const config = join(scratch, 'apt.conf')
    writeFileSync(
      config,
      [
        `Dir::State::lists "${join(state, 'lists')}";`,
        `Dir::Cache "${join(state, 'cache')}";`,
        'APT::Sandbox::User "";',
        '#clear APT::Update::Pre-Invoke;',
        '#clear APT::Update::Post-Invoke;',
        '#clear APT::Update::Post-Invoke-Success;',
        '',
      ].join('\n'),
    )
    try {
      run('apt-get', ['-c', config, 'update'], { cwd: scratch })
      downloadWith(['-c', config], scratch)
    } catch (error) {
      throw new Error(`${reasonOf(error)} (and with the system's package lists: ${reasonOf(systemError)})`)
    }
  }
}

function downloadWith(aptOptions, folder) {
  const libraries = run('apt-cache', [...aptOptions, 'depends', '--important', ...PACKAGES], { cwd: folder })
    .split('\n')
    .map((line) => /^\s*\|?(?:Pre)?Depends: ((?:lib|lua)\S+)$/.exec(line)?.[1])
    .filter((name) => name !== undefined && !SYSTEM_LIBRARIES.test(name))
  run('apt-get', [...aptOptions, 'download', ...PACKAGES, ...new Set(libraries)], { cwd: folder })
}

/**
 * Copies the server out of an image, with the libraries it was built against, and runs it with the loader from there.
 * Running it in a container would hide it behind another process, which tests could neither kill nor stop.
 */
function fromImage(image, cacheDir, log) {
  if (process.platform !== 'linux') return 'only on Linux'
  const target = join(cacheDir, `image-${image.replace(/[^\w.-]/g, '-')}-${process.arch}`)
  const bin = join(target, WRAPPER)
  if (!existsSync(bin)) {
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
      wrapServer({ root, target, names: NAMES, folder: 'usr/local/bin', wrapper: WRAPPER })
    })
    if (why) return why
  }
  return { bin, env: {} }
}

/** The version as `text`, or `why` the server is of no use. */
export function versionOf({ bin, env }) {
  try {
    const answer = run(bin, ['--version'], { env: { ...process.env, ...env } })
    const [, text, major, minor] = /v=((\d+)\.(\d+)\S*)/.exec(answer) ?? []
    if (text === undefined) return { why: `${bin} --version answered ${JSON.stringify(answer.slice(0, 80))}` }
    const isTooOld = major < MIN_VERSION[0] || (+major === MIN_VERSION[0] && minor < MIN_VERSION[1])
    return isTooOld
      ? { why: `${bin} is version ${text}; ${MIN_VERSION.join('.')} is the oldest that works` }
      : { text }
  } catch (error) {
    return { why: `${bin} does not run: ${reasonOf(error)}` }
  }
}

/** What an outer process found for this binary: the launcher hands both on to the tests. */
function libraryPathFromEnv() {
  const path = process.env.REDIS_SERVER_LIBRARY_PATH
  return path ? { LD_LIBRARY_PATH: path } : {}
}

/** The environment that makes `findRedisServer` in a child process return what was found here. */
export function asEnv(found) {
  const libraries = found.env.LD_LIBRARY_PATH
  return { REDIS_SERVER_BIN: found.bin, ...(libraries ? { REDIS_SERVER_LIBRARY_PATH: libraries } : {}) }
}

/** Names the cache folder, so that it does not outlive an upgrade of the system. */
function distribution() {
  const release = readFileSync('/etc/os-release', 'utf8')
  const field = (name) => new RegExp(`^${name}="?([^"\\n]*)`, 'm').exec(release)?.[1]
  return `${field('ID')}-${field('VERSION_ID') ?? field('VERSION_CODENAME')}`
}
