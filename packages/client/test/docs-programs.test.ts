/** The programs printed in the docs do what the text around them says. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { LbsProducer } from '../src/index.js'

const ROOT = new URL('../../../', import.meta.url)
const RECORDS = 5
/** Two processes that begin on a busy machine. */
const START_TIMEOUT_MS = 20_000

let server: RedisServer
let redis: Redis
const processes: Program[] = []

beforeAll(async () => {
  server = await RedisServer.start()
  redis = server.client()
})

afterAll(async () => {
  for (const { child } of processes) child.kill('SIGKILL')
  await server[Symbol.asyncDispose]()
})

interface Program {
  readonly child: ChildProcess
  output: string
}

/** The first block of code in a language on a page, from a text on it on. */
async function block(page: string, language: string, from = ''): Promise<string> {
  const text = await readFile(new URL(page, ROOT), 'utf8')
  const rest = text.slice(text.indexOf(from))
  const code = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'm').exec(rest)?.[1]
  if (code === undefined) throw new Error(`no ${language} in ${page} from ${JSON.stringify(from)} on`)
  return code
}

/** Runs a module as a process of its own, as an application of the built package would. */
function run(code: string, podName: string, folder = 'packages/client/'): Program {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
    cwd: fileURLToPath(new URL(folder, ROOT)),
    env: { ...process.env, REDIS_URL: server.url, POD_NAME: podName },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const program: Program = { child, output: '' }
  const collect = (chunk: Buffer): void => {
    program.output += chunk.toString()
  }
  child.stdout.on('data', collect)
  child.stderr.on('data', collect)
  processes.push(program)
  return program
}

it('the program of the README works through what is added, hands over at SIGTERM, and ends', async () => {
  const program = await block('README.md', 'js', '## Ownership alone')
  const add = await block('README.md', 'js', 'function begin')
  expect(add).toContain("new LbsProducer(redis, 'orders').add('sensor-1', { unit: 'C' })")
  for (let value = 1; value <= RECORDS; value++) await redis.xadd('sensor-1', '*', 'value', value)
  const [first, second] = [run(program, 'pod-1'), run(program, 'pod-2')]
  const wholeOutput = (): string => first.output + second.output
  await eventually(
    'both are ready',
    () => redis.keys('orders-heartbeat:*'),
    (keys) => keys.length === 2,
    { timeoutMs: START_TIMEOUT_MS },
  )

  await new LbsProducer(redis, 'orders').add('sensor-1', { unit: 'C' })
  await eventually('every record is printed', wholeOutput, (text) => text.includes(`value ${RECORDS}\n`))
  await eventually(
    'the stream is done',
    () => redis.xlen('orders-input'),
    (length) => length === 0,
  )
  expect(await redis.hlen('orders-locks')).toBe(0)
  expect(wholeOutput().match(/^sensor-1 \S+ value \d$/gm)).toHaveLength(RECORDS)

  for (const { child } of [first, second]) {
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  }
  expect(wholeOutput()).not.toMatch(/error/i)
  expect(await redis.keys('orders-heartbeat:*')).toEqual([])
})

it('the service of the README handles what the producer adds, hands over at SIGTERM, and ends', async () => {
  const service = await block('README.md', 'js', '## A service')
  const producer = (await block('README.md', 'js', 'A producer adds records')).replace(
    "import { RecordProducer } from '@redis-stream-client/worker'",
    `$&\nimport { Redis } from 'ioredis'\nconst redis = new Redis(process.env.REDIS_URL)`,
  )
  const services = ['pod-3', 'pod-4'].map((podName) => run(service, podName, 'packages/worker/'))
  await eventually(
    'both are ready',
    () => redis.keys('orders-heartbeat:*'),
    (keys) => keys.length === 2,
    { timeoutMs: START_TIMEOUT_MS },
  )
  const { child } = run(`${producer}\nredis.disconnect()`, 'producer', 'packages/worker/')
  expect(await once(child, 'exit')).toEqual([0, null])
  const wholeOutput = (): string => services.map(({ output }) => output).join('')
  await eventually(
    'the record is handled',
    wholeOutput,
    (text) => /^orders-eu \S+ \{ item: 7 \}$/m.test(text),
    { timeoutMs: START_TIMEOUT_MS },
  )
  for (const each of services) {
    each.child.kill('SIGTERM')
    expect(await once(each.child, 'exit')).toEqual([0, null])
  }
  expect(wholeOutput()).not.toMatch(/error/i)
  expect(await redis.xlen('orders-input')).toBe(1) // handed over, not done
  await redis.del('orders-input', 'orders-locks')
})

it('the script of the guide writes for the owner of the moment, and refuses a former one', async () => {
  const script = await block('docs/guides/idempotent-work.md', 'lua')
  const write = (fence: number, position: string): Promise<unknown> =>
    redis.eval(script, 2, 'position:sensor-1', 'totals', fence, position, 'amount', 10)
  expect(await write(7, '1-0')).toBe(1)
  expect(await write(7, '2-0')).toBe(1)
  expect(await write(1_763_770_000_123_456, '3-0')).toBe(1)
  expect(await write(1_763_770_000_123_455, '4-0')).toBe(0)
  expect(await redis.hgetall('position:sensor-1')).toEqual({ fence: '1763770000123456', position: '3-0' })
  expect(await redis.hget('totals', 'amount')).toBe('30')
})

it('the program of the guide for Go moves what is pending and what is undelivered to another service', async () => {
  const program = await block('docs/guides/moving-from-redis-stream-client-go.md', 'js', '## Service names')
  const lbs = 'prod:orders-input'
  const assign = (n: number): Promise<unknown> =>
    redis.xadd(lbs, '*', 'lbs-input', JSON.stringify({ DataStreamName: `sensor-${n}` }))
  await redis.xgroup('CREATE', lbs, 'prod:orders-group', '$', 'MKSTREAM')
  for (let n = 0; n < 5; n++) await assign(n)
  const read = (await redis.xreadgroup(
    ...(['GROUP', 'prod:orders-group', 'redis-consumer-pod-1', 'COUNT', 3, 'STREAMS', lbs, '>'] as const),
  )) as [string, [id: string, fields: string[]][]][]
  const [done, , deleted] = (read[0]?.[1] ?? []).map(([id]) => id)
  await redis.xack(lbs, 'prod:orders-group', done as string)
  await redis.xdel(lbs, deleted as string)

  const { child } = run(program, 'mover')
  expect(await once(child, 'exit')).toEqual([0, null])
  const moved = await redis.xrange('prod-orders-input', '-', '+')
  expect(moved.map(([, fields]) => JSON.parse(fields[1] as string).DataStreamName)).toEqual([
    'sensor-1',
    'sensor-3',
    'sensor-4',
  ])
  expect((await redis.xpending(lbs, 'prod:orders-group'))[0]).toBe(0)
})
