/**
 * Finds a Redis server to start, or fetches one without root.
 *
 * Tried in this order: REDIS_SERVER_BIN; redis-server or valkey-server on PATH and in the places brew and
 * `make install` use; on Debian and Ubuntu the distribution's own packages, unpacked into a cache folder; a docker
 * daemon that answers. Plain Node without dependencies, because it runs before anything is installed.
 */
import { execFileSync } from 'node:child_process'
import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'

const NAMES = ['redis-server', 'valkey-server']
const USUAL_PLACES = [
  '/usr/local/bin',
  '/usr/bin',
  '/opt/homebrew/bin',
  '/home/linuxbrew/.linuxbrew/bin',
  '/opt/local/bin',
]
/** `redis-tools` holds the binary, `redis-server` only the service around it; the rest are libraries it loads. */
const PACKAGES = [
  'redis-tools',
  'redis-server',
  'libjemalloc2',
  'liblzf1',
  'liblua5.1-0',
  'lua-cjson',
  'lua-bitop',
]
const REQUIRED_PACKAGES = new Set(['redis-tools', 'redis-server'])
const DOCKER_IMAGE = 'redis:7'
const CHECK_TIMEOUT_MS = 10_000
const FETCH_TIMEOUT_MS = 120_000

export const WAYS = `No Redis server was found. Any one of these will do:
  - put redis-server or valkey-server (6.2 or newer) on PATH: apt install redis-server, brew install redis, ...
  - set REDIS_SERVER_BIN to the path of such a binary
  - on Debian or Ubuntu: let apt-get and dpkg be on PATH and a package mirror reachable; nothing is installed,
    the package is unpacked into a cache folder
  - start a docker daemon that this user may talk to (Linux only)
The demo can also use a server that runs already: set REDIS_URL, for example REDIS_URL=redis://127.0.0.1:6379`

/** Where fetched servers are kept between runs. */
export function defaultCacheDir() {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'redis-stream-client')
}

/**
 * @param {{ cacheDir?: string, log?: (line: string) => void }} [options]
 * @returns {{ bin: string, env: Record<string, string>, how: string, version: string }}
 *   `env` is what the binary needs beside the caller's environment.
 * @throws an Error naming every way that would work, and what was tried.
 */
export function findRedisServer({ cacheDir = defaultCacheDir(), log = () => {} } = {}) {
  const tried = []
  const named = process.env.REDIS_SERVER_BIN
  if (named) {
    const env = libraryPathFromEnv()
    const version = versionOf(named, env)
    if (!version.ok) throw new Error(`REDIS_SERVER_BIN=${named} does not run: ${version.why}`)
    return { bin: named, env, how: 'REDIS_SERVER_BIN', version: version.text }
  }
  for (const [how, find] of [
    ['PATH', () => onPath()],
    ['distribution packages', () => unpacked(cacheDir, log)],
    ['docker', () => inDocker(cacheDir)],
  ]) {
    const found = find()
    if (typeof found === 'string') {
      tried.push(`${how}: ${found}`)
      continue
    }
    const version = versionOf(found.bin, found.env)
    if (version.ok) return { ...found, how, version: version.text }
    tried.push(`${how}: ${found.bin} does not run: ${version.why}`)
  }
  throw new Error(`${WAYS}\n\nTried:\n${tried.map((line) => `  - ${line}`).join('\n')}`)
}

function onPath() {
  const folders = [...(process.env.PATH ?? '').split(delimiter).filter(Boolean), ...USUAL_PLACES]
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
  if (process.platform !== 'linux') return 'only on Linux'
  if (!runs('apt-get', ['--version']) || !runs('dpkg', ['--version'])) return 'no apt-get and dpkg'
  const target = join(cacheDir, `debian-${distribution()}-${process.arch}`)
  if (!existsSync(join(target, 'usr/bin/redis-server'))) {
    log("No redis-server on PATH: unpacking the distribution's package into a cache folder (once) ...")
    const why = fetchPackages(cacheDir, target)
    if (why) return why
  }
  return {
    bin: join(target, 'usr/bin/redis-server'),
    env: { LD_LIBRARY_PATH: libraryFolders(target).join(delimiter) },
  }
}

/** Returns what went wrong, or nothing. The folder appears under its name only when it is whole. */
function fetchPackages(cacheDir, target) {
  mkdirSync(cacheDir, { recursive: true })
  const scratch = mkdtempSync(join(cacheDir, 'fetch-'))
  try {
    const debs = join(scratch, 'debs')
    const root = join(scratch, 'root')
    mkdirSync(debs)
    mkdirSync(root)
    let aptOptions = []
    let failed = download(debs, aptOptions)
    if (failed) {
      // No package lists, or old ones: fetch own lists, which needs no root.
      aptOptions = ownAptState(scratch)
      try {
        run('apt-get', [...aptOptions, 'update'], { cwd: debs, timeout: FETCH_TIMEOUT_MS })
      } catch (error) {
        return `apt-get download failed (${failed}), and so did apt-get update: ${reasonOf(error)}`
      }
      failed = download(debs, aptOptions)
      if (failed) return `apt-get download failed: ${failed}`
    }
    for (const deb of readdirSync(debs).filter((name) => name.endsWith('.deb'))) {
      run('dpkg', ['-x', join(debs, deb), root], { timeout: FETCH_TIMEOUT_MS })
    }
    if (!existsSync(join(root, 'usr/bin/redis-server'))) return 'the packages hold no redis-server'
    rmSync(target, { recursive: true, force: true })
    renameSync(root, target)
    return undefined
  } catch (error) {
    return reasonOf(error)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function download(folder, aptOptions) {
  for (const name of PACKAGES) {
    try {
      run('apt-get', [...aptOptions, 'download', name], { cwd: folder, timeout: FETCH_TIMEOUT_MS })
    } catch (error) {
      // Which libraries there are differs between releases; whether the server runs is checked at the end.
      if (REQUIRED_PACKAGES.has(name)) return reasonOf(error)
    }
  }
  return undefined
}

function ownAptState(scratch) {
  const state = join(scratch, 'apt')
  for (const folder of ['lists/partial', 'cache/archives/partial'])
    mkdirSync(join(state, folder), { recursive: true })
  return [
    '-o',
    `Dir::State::lists=${join(state, 'lists')}`,
    '-o',
    `Dir::Cache=${join(state, 'cache')}`,
    '-o',
    'APT::Sandbox::User=',
    // Hooks of the machine (container images clean caches with them) would act on the machine's own state.
    '-o',
    'APT::Update::Post-Invoke=',
    '-o',
    'APT::Update::Post-Invoke-Success=',
  ]
}

function libraryFolders(root) {
  const folders = []
  for (const base of ['usr/lib', 'lib']) {
    const folder = join(root, base)
    if (!existsSync(folder)) continue
    folders.push(folder)
    for (const entry of readdirSync(folder)) {
      if (entry.includes('-linux-gnu') && statSync(join(folder, entry)).isDirectory())
        folders.push(join(folder, entry))
    }
  }
  return folders
}

/** A wrapper script that runs the image's server on the host's network; `docker info` proves that a daemon answers. */
function inDocker(cacheDir) {
  if (process.platform !== 'linux') return 'only on Linux, where a container can use the network of the host'
  try {
    run('docker', ['info', '--format', '{{.ServerVersion}}'], { timeout: CHECK_TIMEOUT_MS })
  } catch (error) {
    return `no daemon answers (${reasonOf(error)})`
  }
  mkdirSync(cacheDir, { recursive: true })
  const bin = join(cacheDir, 'redis-server-in-docker')
  // The temporary folder is shared because unix sockets and data live there, and the ids so that both may write.
  writeFileSync(
    bin,
    `#!/bin/sh
exec docker run --rm --init --network host --user "$(id -u):$(id -g)" \\
  --volume "\${TMPDIR:-/tmp}:\${TMPDIR:-/tmp}" --workdir "\${TMPDIR:-/tmp}" ${DOCKER_IMAGE} redis-server "$@"
`,
  )
  chmodSync(bin, 0o755)
  return { bin, env: {} }
}

function versionOf(bin, env) {
  try {
    const text = run(bin, ['--version'], { env: { ...process.env, ...env }, timeout: FETCH_TIMEOUT_MS })
    const version = /v=(\S+)/.exec(text)?.[1]
    return version
      ? { ok: true, text: version }
      : { ok: false, why: `--version answered ${JSON.stringify(text.slice(0, 80))}` }
  } catch (error) {
    return { ok: false, why: reasonOf(error) }
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

function run(command, args, options) {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], ...options })
}

function runs(command, args) {
  try {
    run(command, args, { timeout: CHECK_TIMEOUT_MS })
    return true
  } catch {
    return false
  }
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

function reasonOf(error) {
  const stderr = String(error?.stderr ?? '')
    .trim()
    .split('\n')
    .filter(Boolean)
    .at(-1)
  return stderr || (error instanceof Error ? error.message.split('\n')[0] : String(error))
}
