/** The client's dead letters: what they keep, and what can be done with them. */
import { createHash } from 'node:crypto'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { type Logger, pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ClientOptions, type DeadLetter, RedisStreamClient, ServiceDeadLetters } from '../src/index.js'
import { buryLua, replayDeadLua } from '../src/redis/lua.generated.js'

const OPTIONS = {
  consumerId: 'a',
  heartbeatTtlMs: 4000,
  logger: pino({ level: 'silent' }),
} satisfies ClientOptions
const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))

let server: RedisServer
let redis: Redis
let deadLetters: ServiceDeadLetters
beforeAll(async () => {
  server = await RedisServer.start()
  redis = server.client()
  deadLetters = new ServiceDeadLetters(redis, 'orders')
})
beforeEach(() => redis.flushall())
afterAll(() => server[Symbol.asyncDispose]())

async function clientWith(options: ClientOptions = {}): Promise<RedisStreamClient> {
  const client = new RedisStreamClient(server.client(), 'orders', { ...OPTIONS, ...options })
  await client.init()
  return client
}

/** Has entries buried by a client that is closed afterwards. */
async function bury(...entries: (string | Buffer)[][]): Promise<void> {
  for (const fields of entries) await redis.xadd('orders-input', '*', ...fields)
  await using _client = await clientWith()
  await eventually('all are dead letters', async () => (await deadLetters.count()) === entries.length)
}

async function addBroken(count: number): Promise<void> {
  for (let start = 0; start < count; start += 1000) {
    const pipeline = redis.pipeline()
    for (let i = start; i < Math.min(count, start + 1000); i++)
      pipeline.xadd('orders-input', '*', 'lbs-input', '{')
    await pipeline.exec()
  }
}

describe('a replay', () => {
  it('gives back every field to the byte, repeated names included', async () => {
    const fields = [
      'lbs-input',
      '{"DataStreamName":',
      'twice',
      'one',
      'twice',
      'two',
      'é"\\/',
      ALL_BYTES,
      ALL_BYTES,
      '',
    ]
    await bury(fields)
    const [letter, ...others] = await deadLetters.list()
    expect(others).toEqual([])
    const bytes = fields.map((each) => Buffer.from(each as string))
    expect(letter?.rawFields.flat()).toEqual(bytes)
    expect(letter?.fields.slice(0, 3)).toEqual([
      ['lbs-input', '{"DataStreamName":'],
      ['twice', 'one'],
      ['twice', 'two'],
    ])
    const id = await deadLetters.replay(letter?.id ?? '')
    const [[added, flat] = []] = await redis.xrangeBuffer('orders-input', '-', '+')
    expect(String(added)).toBe(id)
    expect(flat).toEqual(bytes)
    expect(await deadLetters.count()).toBe(0)
  })

  it('is served like a new assignment', async () => {
    await redis.hset('orders-locks', 's', 'damaged')
    await redis.xadd('orders-input', '*', 'lbs-input', '{"DataStreamName":"s","Info":{"n":1}}')
    await using client = await clientWith()
    await eventually('it is a dead letter', async () => (await client.deadLetters.count()) === 1)
    await redis.hdel('orders-locks', 's')
    const [letter] = await client.deadLetters.list()
    expect(letter).toMatchObject({ dataStreamName: 's', reason: 'unserviceable', owner: client.id })
    expect(letter?.error).toContain('damaged lock record')
    expect(Math.abs(Date.now() - (letter?.atMs ?? 0))).toBeLessThan(60_000)
    await client.deadLetters.replay(letter?.id ?? '')
    await eventually('it is owned', () => client.owned.get('s')?.additionalInfo['n'] === 1)
  })

  it('is added before the letter is removed, and only once', async () => {
    await bury(['lbs-input', '{'])
    const [letter] = await deadLetters.list()
    const id = letter?.id ?? ''
    const monitor = await redis.monitor()
    const commands: string[] = []
    monitor.on('monitor', (_, [command = '']) => commands.push(command.toLowerCase()))
    const calls = await Promise.allSettled([deadLetters.replay(id), deadLetters.replay(id)])
    await eventually('the commands are known', () => commands.includes('xdel'))
    monitor.disconnect()
    expect(calls.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(commands.filter((command) => /^x(add|del)$/.test(command))).toEqual(['xadd', 'xdel'])
    expect(await redis.xlen('orders-input')).toBe(1)
    await expect(deadLetters.replay(id)).rejects.toMatchObject({ code: 'DEAD_LETTER_GONE', facts: { id } })
  })

  it('of what no client has written is refused, and the letter kept', async () => {
    const foreign = [
      ['no', 'fields'],
      ['fields', '{"a":"b"}'],
      ['fields', '[1,2]'],
      ['fields', '["odd"]'],
      ['fields', '['],
    ]
    for (const fields of foreign) {
      const id = String(await redis.xadd('orders-dead', '*', ...fields))
      await expect(deadLetters.replay(id), String(fields)).rejects.toMatchObject({
        code: 'LBS_MESSAGE_INVALID',
      })
    }
    expect(await deadLetters.list()).toHaveLength(foreign.length)
    expect(await redis.xlen('orders-input')).toBe(0)
  })

  it.each([3000, 5000])('of %s fields gives back all of them', async (count) => {
    const many = Array.from({ length: count }, (_, i) => [`field ${i}`, 'x']).flat()
    await bury(['lbs-input', '{"DataStreamName":"s"}', ...many, 'bytes', ALL_BYTES])
    const [letter] = await deadLetters.list()
    expect(letter?.fields).toHaveLength(count + 2)
    await deadLetters.replay(letter?.id ?? '')
    const [[, fields] = []] = await redis.xrangeBuffer('orders-input', '-', '+')
    expect(fields).toEqual(letter?.rawFields.flat())
    expect(fields?.at(-1)).toEqual(ALL_BYTES)
    expect(await deadLetters.count()).toBe(0)
    await expect(deadLetters.replay(letter?.id ?? '')).rejects.toMatchObject({ code: 'DEAD_LETTER_GONE' })
  })
})

describe('dead letters', () => {
  it('are listed in pages, the oldest first, and dropped for good', async () => {
    for (let i = 1; i <= 50; i++)
      await redis.xadd('orders-dead', `${i}-0`, 'fields', `["n","${i}"]`, 'error', 'x')
    const first = await deadLetters.list({ count: 30 })
    expect(first.map(({ id }) => id)).toEqual(Array.from({ length: 30 }, (_, i) => `${i + 1}-0`))
    const rest = await deadLetters.list({ after: '30-0' })
    expect(rest.map(({ fields }) => fields[0]?.[1])).toEqual(
      Array.from({ length: 20 }, (_, i) => String(i + 31)),
    )
    await deadLetters.drop('1-0')
    await expect(deadLetters.drop('1-0')).rejects.toMatchObject({ code: 'DEAD_LETTER_GONE' })
    expect(await deadLetters.count()).toBe(49)
  })

  it('of great size are listed a few at a time', async () => {
    const large = JSON.stringify(['n', 'x'.repeat(1024 * 1024)])
    for (let i = 0; i < 45; i++) await redis.xadd('orders-dead', '*', 'fields', large)
    const first = await deadLetters.list()
    expect(first.length).toBeLessThan(45)
    expect(
      first.length + (await deadLetters.list({ after: first.at(-1)?.id })).length,
    ).toBeGreaterThanOrEqual(32)
  })

  it.each([0, 10_001, 1.5, Number.NaN])('are not listed %s at a time', async (count) => {
    await expect(deadLetters.list({ count })).rejects.toMatchObject({ code: 'OPTION_INVALID' })
  })

  it('are not found by what is no id', async () => {
    await redis.xadd('orders-dead', '*', 'fields', '[]')
    await expect(deadLetters.replay('nonsense')).rejects.toMatchObject({ code: 'OPTION_INVALID' })
    await expect(deadLetters.drop('nonsense')).rejects.toMatchObject({ code: 'OPTION_INVALID' })
  })

  it('are kept up to about as many as allowed', async () => {
    await addBroken(1000)
    await using client = await clientWith({ deadLetterMaxLen: 150 })
    await eventually('all were buried', async () => (await redis.xlen('orders-input')) === 0)
    const count = await client.deadLetters.count()
    expect(count).toBeGreaterThanOrEqual(150)
    expect(count).toBeLessThanOrEqual(350)
  })

  it('of great size come and go by plain commands, because a script would hold up all other clients', async () => {
    await redis.script('FLUSH')
    const fields = ['lbs-input', '{', 'large', Buffer.alloc(3_000_000, ALL_BYTES)]
    await bury(fields)
    const [letter] = await deadLetters.list()
    const bytes = fields.map((each) => Buffer.from(each as string))
    expect(letter?.rawFields.flat().map((each, index) => each.equals(bytes[index] as Buffer))).not.toContain(
      false,
    )
    expect(letter).toMatchObject({ reason: 'malformed', owner: 'redis-consumer-a', dataStreamName: null })
    expect(await redis.xlen('orders-input')).toBe(0)
    expect(await redis.xpending('orders-input', 'orders-group')).toEqual([0, null, null, null])

    await deadLetters.replay(letter?.id ?? '')
    const [entry] = await redis.xrangeBuffer('orders-input', '-', '+')
    expect(entry?.[1].map((each, index) => each.equals(bytes[index] as Buffer))).not.toContain(false)
    expect(await deadLetters.count()).toBe(0)
    const hashes = [buryLua, replayDeadLua].map((lua) => createHash('sha1').update(lua).digest('hex'))
    expect(await redis.script('EXISTS', ...(hashes as [string]))).toEqual([0, 0])
  })

  it('are logged once a second, with their number', async () => {
    const lines: { count?: number; reason?: string }[] = []
    const log = (facts: { reason?: string }): void => void (facts.reason && lines.push(facts))
    const logger = { debug: log, info: log, warn: log, error: log, child: () => logger }
    const letters: DeadLetter[] = []
    await addBroken(3000)
    const client = new RedisStreamClient(server.client(), 'orders', {
      ...OPTIONS,
      logger: logger as unknown as Logger,
    })
    client.on('deadLetter', (letter) => letters.push(letter))
    const startMs = performance.now()
    await client.init()
    await using _closed = client
    const counted = (): number => lines.reduce((sum, { count = 1 }) => sum + count, 0)
    await eventually('all are counted in the log', counted, (count) => count === 3000, { timeoutMs: 30_000 })
    expect(letters).toHaveLength(3000)
    expect(lines.length).toBeLessThanOrEqual(2 + (performance.now() - startMs) / 1000)
    expect(lines.every(({ reason }) => reason === 'malformed')).toBe(true)
  })
})
