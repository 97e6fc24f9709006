/** What a client sends to stay owner, counted by the server. */
import { setTimeout as delay } from 'node:timers/promises'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { RedisStreamClient } from '../src/index.js'

const WINDOW_MS = 3000
/** Of what the client sends, signs of life and the level aside. */
const SENT = [
  'get',
  'evalsha',
  'eval',
  'xreadgroup',
  'hmget',
  'hscan',
  'publish',
  'xpending',
  'config|get',
  'config|set',
]

async function sentIn(redis: Redis, windowMs: number): Promise<number> {
  const monitor = await redis.monitor()
  let sent = 0
  monitor.on('monitor', (_time: string, [name = '', subcommand = '']: string[], source: string) => {
    const isSent = [name, `${name}|${subcommand}`].some((each) => SENT.includes(each.toLowerCase()))
    if (source !== 'lua' && isSent) sent++
  })
  await delay(windowMs)
  monitor.disconnect()
  return sent
}

async function addStreams(redis: Redis, from: number, to: number): Promise<void> {
  const pipeline = redis.pipeline()
  for (let i = from; i < to; i++)
    pipeline.xadd('orders-input', '*', 'lbs-input', `{"DataStreamName":"s${i}"}`)
  await pipeline.exec()
}

it('a client sends as little for 5,000 streams as for one', async () => {
  await using server = await RedisServer.start()
  const redis = server.client()
  await using client = new RedisStreamClient(redis, 'orders', {
    consumerId: 'a',
    logger: pino({ level: 'silent' }),
    notificationBufferSize: 10_000,
  })
  await client.init()
  await addStreams(redis, 0, 1)
  await expect.poll(() => client.owned.size, { timeout: 10_000 }).toBe(1)
  const one = await sentIn(redis, WINDOW_MS)
  await addStreams(redis, 1, 5000)
  await expect.poll(() => client.owned.size, { timeout: 30_000 }).toBe(5000)
  await delay(500) // the last answers of the taking
  const many = await sentIn(redis, WINDOW_MS)
  // Heartbeats and probe rounds every half second, one blocking read, now and then a page of housekeeping.
  const atMost = (WINDOW_MS / 1000) * 5 + 5
  expect(one).toBeLessThanOrEqual(atMost)
  expect(many).toBeLessThanOrEqual(atMost)
}, 60_000)

it('a client reads more at a time while no other is alive', async () => {
  await using server = await RedisServer.start()
  const redis = server.client()
  const monitor = await redis.monitor()
  const counts = new Map<string, number>()
  monitor.on('monitor', (_time: string, args: string[]) => {
    if (args[0] !== 'xreadgroup') return
    const [clientId = ''] = String(args[args.indexOf('GROUP') + 2]).split(':')
    counts.set(clientId, Number(args[args.indexOf('COUNT') + 1]))
  })
  const options = { logger: pino({ level: 'silent' }), probeIntervalMs: 100 }
  const countOf = async (name: string): Promise<number | undefined> => {
    await addStreams(redis, 0, 1) // a read that waits goes on as it began
    return counts.get(`redis-consumer-${name}`)
  }
  await using first = new RedisStreamClient(redis, 'orders', {
    ...options,
    consumerId: 'first',
    readCount: 4,
  })
  await first.init()
  await expect.poll(() => countOf('first'), { timeout: 10_000 }).toBe(20)
  await using second = new RedisStreamClient(redis, 'orders', { ...options, consumerId: 'second' })
  await second.init()
  await expect.poll(() => countOf('first'), { timeout: 10_000 }).toBe(4)
  await second.close()
  await expect.poll(() => countOf('first'), { timeout: 10_000 }).toBe(20)
  monitor.disconnect()
}, 60_000)
