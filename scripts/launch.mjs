/**
 * `node scripts/launch.mjs <task>`: all that a fresh clone needs, with Node and npm alone.
 *
 * Checks Node, finds a Redis server, installs with the pinned pnpm, then runs the pnpm scripts of the task. They are
 * ordinary scripts of package.json, so whoever has pnpm can run each alone.
 * Plain Node without dependencies, because it runs before anything is installed.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { asEnv, findRedisServer } from '../packages/testing/src/server/find-redis.js'
import { startTemporaryRedis } from '../packages/testing/src/server/temporary-redis.js'

/**
 * `scripts` run one after the other; the first failure ends the task. What follows the name of the task on the command
 * line goes to the last of them.
 * `redis`: with `binary` they start servers themselves; with `running` they also get a REDIS_URL, the caller's or
 * that of an empty server started for this run.
 */
const TASKS = {
  test: { redis: 'binary', scripts: ['check', 'test:vitest'] },
  ioredis5: { redis: 'binary', scripts: ['build', 'ioredis5:run'] },
  demo: { redis: 'running', scripts: ['build', 'demo:run'] },
  examples: { redis: 'running', scripts: ['build', 'examples:run'] },
  bench: { redis: 'binary', scripts: ['build', 'bench:run'] },
  faults: { redis: 'binary', scripts: ['build', 'faults:run'] },
  soak: { redis: 'binary', scripts: ['build', 'soak:run'] },
  'crash-loop': { redis: 'binary', scripts: ['build', 'crash-loop:run'] },
  servers: { redis: 'binary', scripts: ['build', 'servers:run'] },
  tarballs: { redis: 'running', scripts: ['build', 'tarballs:run'] },
}

/** What npm leaves in the environment for its children, and would change what an npx or pnpm inside it does. */
const NPM_LEFTOVERS = /^(npm_(package|lifecycle)_|npm_(command|execpath|node_execpath)$|INIT_CWD$)/
const NPM_CONFIG_LEFTOVERS = [
  ...[
    'call',
    'package',
    'yes',
    'workspace',
    'workspaces',
    'include_workspace_root',
    'if_present',
    'user_agent',
  ],
  ...[
    'prefix',
    'local_prefix',
    'global_prefix',
    'global',
    'location',
    'npm_version',
    'node_gyp',
    'init_module',
  ],
].map((name) => `npm_config_${name}`)

/** How long programs may take to end after pnpm has. */
const GOODBYE_MS = 20_000

const root = fileURLToPath(new URL('..', import.meta.url))
const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))

/** Something the user can act on: printed without a stack. */
class Failure extends Error {}

async function launch(name, args) {
  checkPlatform()
  checkNode()
  const task = TASKS[name]
  if (task === undefined) throw new Failure(`Which task? One of: ${Object.keys(TASKS).join(', ')}`)
  const redis = await provideRedis(task.redis)
  try {
    say(`Redis: ${redis.how}`)
    const env = { ...cleanEnv(), ...redis.env }
    await install(env)
    for (const [index, script] of task.scripts.entries()) {
      const rest = index === task.scripts.length - 1 ? args : []
      const code = await pnpm(['--silent', 'run', script, ...rest], env)
      if (code !== 0) throw new Failure(`${name}: \`pnpm run ${script}\` failed (${code})`)
    }
  } finally {
    await redis.stop()
  }
}

/** Redis has no build for Windows, and the tests stop and continue processes with signals that it does not have. */
function checkPlatform() {
  if (process.platform !== 'win32') return
  throw new Failure(
    'This does not run on Windows itself. Use WSL: https://learn.microsoft.com/windows/wsl/install, then clone and run it there.',
  )
}

function checkNode() {
  const wanted = /\d+\.\d+\.\d+/.exec(manifest.engines.node)[0]
  const [have, need] = [process.versions.node, wanted].map((version) => version.split('.').map(Number))
  const difference = have.map((number, index) => number - need[index]).find((d) => d !== 0) ?? 0
  if (difference < 0) {
    throw new Failure(
      `This is Node ${process.versions.node}; ${wanted} or newer is needed: https://nodejs.org`,
    )
  }
}

async function provideRedis(kind) {
  const stop = async () => {}
  if (kind === 'running' && process.env.REDIS_URL) {
    return { env: {}, how: `the one at REDIS_URL=${withoutPassword(process.env.REDIS_URL)}`, stop }
  }
  const found = find(kind)
  const how = `${found.version} (${found.how})`
  if (kind === 'binary') return { env: asEnv(found), how, stop }
  const server = await startTemporaryRedis(found, { args: ['--appendonly', 'yes'] })
  return {
    env: { ...asEnv(found), REDIS_URL: server.url },
    how: `${how}, started for this run`,
    stop: () => server.process.end(),
  }
}

function find(kind) {
  try {
    return findRedisServer({ log: say })
  } catch (error) {
    const orUrl =
      kind === 'running' ? '\nOr use a server that runs already: REDIS_URL=redis://127.0.0.1:6379' : ''
    throw new Failure(`${error.message}${orUrl}`)
  }
}

function withoutPassword(url) {
  return url.replace(/\/\/[^@/]*@/, '//***@')
}

function cleanEnv() {
  const env = { ...process.env }
  for (const name of Object.keys(env)) {
    if (NPM_LEFTOVERS.test(name) || NPM_CONFIG_LEFTOVERS.includes(name.toLowerCase())) delete env[name]
  }
  return env
}

/** Quiet unless it fails. `--prod=false`, because with NODE_ENV=production pnpm would leave the tools out. */
async function install(env) {
  say('Packages: pnpm install ...')
  const code = await pnpm(
    ['install', '--frozen-lockfile', '--prod=false', '--reporter=append-only'],
    env,
    true,
  )
  if (code !== 0)
    throw new Failure(
      `pnpm install failed (${code}); is ${env.npm_config_registry ?? 'the npm registry'} reachable?`,
    )
}

async function pnpm(args, env, isQuiet = false) {
  const version = manifest.packageManager.replace(/\+.*/, '')
  // A process group of its own: npx and pnpm do not hand every signal on, but a group can be told as a whole, and it
  // can be seen when the last of it is gone.
  const stdio = isQuiet ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit']
  const child = spawn('npx', ['--yes', '--prefer-offline', version, ...args], {
    cwd: root,
    env,
    stdio,
    detached: true,
  })
  const output = []
  child.stdout?.on('data', (chunk) => output.push(chunk))
  child.stderr?.on('data', (chunk) => output.push(chunk))
  let stoppedBy
  const forward = (signal) => {
    stoppedBy = signal
    signalGroup(child, signal)
  }
  process.on('SIGINT', forward).on('SIGTERM', forward)
  try {
    const code = await new Promise((resolve, reject) => {
      child.once('error', (error) =>
        reject(new Failure(`npx does not run (${error.message}); it comes with npm`)),
      )
      child.once('close', (exitCode, signal) => resolve(exitCode ?? signal))
    })
    for (const deadline = Date.now() + GOODBYE_MS; signalGroup(child, 0) && Date.now() < deadline; )
      await sleep(20)
    signalGroup(child, 'SIGKILL')
    if (stoppedBy !== undefined) throw new Failure(`stopped by ${stoppedBy}`)
    if (code !== 0) process.stderr.write(Buffer.concat(output))
    return code
  } finally {
    process.off('SIGINT', forward).off('SIGTERM', forward)
  }
}

/** Returns false if nobody is left in the group. */
function signalGroup(child, signal) {
  try {
    return process.kill(-child.pid, signal)
  } catch {
    return false
  }
}

function say(line) {
  process.stderr.write(`${line}\n`)
}

try {
  const [task, ...args] = process.argv.slice(2)
  await launch(task, args)
} catch (error) {
  say(error instanceof Failure ? `\n${error.message}` : String(error.stack))
  process.exitCode = 1
}
