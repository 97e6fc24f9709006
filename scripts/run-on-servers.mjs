/**
 * `npm run servers`: the tests that need a server, on every server of `server-sources.mjs`, one after the other.
 *
 *     npm run servers                             all of them
 *     npm run servers -- redis-6.2 valkey-8.1     these
 *     npm run servers -- --short                  the topologies alone
 *
 * A server that cannot be fetched is said and left out. Ends with 1 if a test failed, or if no server ran.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { reasonOf, run } from '../packages/testing/src/server/command.js'
import { startTemporaryRedis } from '../packages/testing/src/server/temporary-redis.js'
import { fetchServer, SERVERS } from './server-sources.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const VITEST = `${root}node_modules/vitest/vitest.mjs`
const RESULTS = `${root}test-results/vitest.json`
/** What is left out needs no server, or is a load of its own. */
const ALL = ['bench', 'faults', 'packages/handling', 'packages/notifs'].map(
  (folder) => `--exclude=${folder}/**`,
)
const SHORT = ['test/topology-']

const { values, positionals } = parseArgs({
  options: { short: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const unknown = positionals.filter((name) => !SERVERS.some((source) => source.name === name))
if (unknown.length > 0) {
  throw new RangeError(
    `no such server: ${unknown.join(', ')}; one of ${SERVERS.map(({ name }) => name).join(', ')}`,
  )
}
const chosen = SERVERS.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
const lines = []
let isWell = true
let ran = 0
for (const source of chosen) {
  say(`\n== ${source.name}`)
  let bin
  try {
    bin = fetchServer(source, { log: say })
  } catch (error) {
    lines.push(`${source.name}: NOT RUN, it cannot be fetched: ${reasonOf(error)}`)
    continue
  }
  const version = run(bin, ['--version']).replace(/ sha=.*/s, '')
  const result = await (source.isTooOld ? isRefused(bin) : runTests(bin, source.except))
  ran++
  isWell &&= result.isWell
  lines.push(`${source.name}: ${result.isWell ? '' : 'FAILED, '}${version}: ${result.text}`)
}
say(`\n${lines.join('\n')}`)
if (ran === 0) say('no server ran')
process.exitCode = isWell && ran > 0 ? 0 : 1

async function runTests(bin, except) {
  rmSync(RESULTS, { force: true })
  const env = { ...process.env, REDIS_SERVER_BIN: bin, REDIS_SERVER_LIBRARY_PATH: '' }
  const without = except === undefined ? [] : [`--exclude=${except}`]
  const startMs = performance.now()
  const child = spawn(process.execPath, [VITEST, 'run', ...(values.short ? SHORT : ALL), ...without], {
    cwd: root,
    env,
    stdio: 'inherit',
  })
  const [code] = await once(child, 'close')
  const seconds = Math.round((performance.now() - startMs) / 1000)
  if (!existsSync(RESULTS)) return { isWell: false, text: `vitest ended with ${code}` }
  const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(RESULTS, 'utf8'))
  const counts = `${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`
  return { isWell: code === 0, text: `${counts} in ${seconds} s` }
}

/** A server that is too old has to be refused in words, not to fail somewhere. */
async function isRefused(bin) {
  const of = createRequire(new URL('../packages/client/package.json', import.meta.url))
  const { Redis } = await import(of.resolve('ioredis'))
  const { RedisStreamClient } = await import('../packages/client/dist/index.js')
  const server = await startTemporaryRedis({ bin, env: {} })
  const redis = new Redis(server.url)
  try {
    const client = new RedisStreamClient(redis, 'orders', { consumerId: 'one' })
    const error = await client.init().then(
      () => undefined,
      (reason) => reason,
    )
    return { isWell: error?.code === 'REDIS_UNSUPPORTED', text: `init: ${error?.code}, ${error?.message}` }
  } finally {
    redis.disconnect()
    await server.process.end()
  }
}

function say(line) {
  process.stderr.write(`${line}\n`)
}
