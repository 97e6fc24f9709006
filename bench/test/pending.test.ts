import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { addStreams } from '../src/assignments.js'
import { heldByConsumer, untilHeldByOthers } from '../src/pending.js'

let server: RedisServer
let redis: Redis
beforeAll(async () => {
  server = await RedisServer.start()
  redis = server.client()
})
afterAll(() => server[Symbol.asyncDispose]())

/** A group that begins at the end of the LBS, and a consumer that has read what came then. */
async function read(service: string, consumer: string, count: number): Promise<void> {
  await redis.xgroup('CREATE', `${service}-input`, `${service}-group`, '$', 'MKSTREAM')
  await addStreams(redis, service, count)
  await redis.xreadgroup('GROUP', `${service}-group`, consumer, 'STREAMS', `${service}-input`, '>')
}

async function claim(service: string, consumer: string, count: number): Promise<void> {
  const [lbs, group] = [`${service}-input`, `${service}-group`]
  const pending = (await redis.xpending(lbs, group, '-', '+', count)) as [id: string][]
  await redis.xclaim(lbs, group, consumer, 0, ...pending.map(([id]) => id))
}

describe('the pending list', () => {
  it('tells what each consumer holds, without any notification', async () => {
    await read('orders', 'victim', 5)
    await claim('orders', 'survivor', 2)
    expect(Object.fromEntries(await heldByConsumer(redis, 'orders'))).toEqual({ survivor: 2, victim: 3 })
  })

  it('shows in the end how many nobody has taken, which is no error', async () => {
    await read('parcels', 'victim', 5)
    const formers = new Set((await heldByConsumer(redis, 'parcels')).keys())
    await claim('parcels', 'survivor', 4)
    const { count, lastAtMs } = await untilHeldByOthers(redis, 'parcels', { formers, goal: 5, timeoutMs: 60 })
    expect(count).toBe(4)
    expect(lastAtMs).toBeGreaterThan(0)
    await claim('parcels', 'survivor', 5)
    const all = await untilHeldByOthers(redis, 'parcels', { formers, goal: 5, timeoutMs: 60_000 })
    expect(all.count).toBe(5)
  })
})
