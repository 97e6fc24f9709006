import { Connection, type SafeLogger } from '@redis-stream-client/client/internal'
import { type Rate, RateLimit } from '@redis-stream-client/handling'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import fc from 'fast-check'
import type { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { resolveRate } from '../src/rate.js'
import { takePermitsLua } from '../src/redis/lua.generated.js'
import { divideBurst } from '../src/service-permits.js'
import { TokenBucket } from '../src/token-bucket.js'

const KEY = 'orders-rate-limit'
/** The script by a clock that the test moves: two more arguments. */
const MOVED = takePermitsLua.replace("redis.call('TIME')", '{ ARGV[6], ARGV[7] }')
const START_US = 1_700_000_000_000_000

let server: RedisServer
let redis: Redis

beforeAll(async () => {
  server = await RedisServer.start()
  redis = server.client()
})
afterAll(() => server[Symbol.asyncDispose]())
beforeEach(async () => {
  await redis.flushall()
})

/** Calls the script as of `nowUs`. */
async function take(
  rate: Rate,
  nowUs: number,
  wanted: number,
  unused: { permits: number; takenUs: number } = { permits: 0, takenUs: 0 },
): Promise<{ permits: number; waitUs: number }> {
  const { capacity, intervalMs } = divideBurst(resolveRate(rate))
  const time = [Math.floor(nowUs / 1e6), nowUs % 1e6]
  const args = [intervalMs * 1000, capacity, wanted, unused.permits, unused.takenUs, ...time]
  const [permits, waitUs] = (await redis.eval(MOVED, 1, KEY, ...args)) as [number, number]
  return { permits, waitUs }
}

/** The greatest number by which the uses in any span of time exceed what the rate refills in it. */
function greatestBurst(usesMs: readonly number[], intervalMs: number): number {
  let greatest = 0
  // Of all spans that end with a use, the worst begins with the use that is least ahead of the rate.
  let least = Infinity
  for (const [n, atMs] of usesMs.entries()) {
    const ahead = n - atMs / intervalMs
    least = Math.min(least, ahead)
    greatest = Math.max(greatest, ahead + 1 - least)
  }
  return greatest
}

const rates = fc.record({
  records: fc.integer({ min: 1, max: 500 }),
  perMs: fc.integer({ min: 1, max: 5000 }),
  burst: fc.integer({ min: 1, max: 40 }),
})

describe('a token bucket in Redis', () => {
  const steps = fc.array(
    fc.oneof(
      fc.record({ type: fc.constant('pass' as const), share: fc.constantFrom(0.3, 0.98, 1.5) }),
      fc.record({
        type: fc.constant('take' as const),
        client: fc.nat(3),
        wanted: fc.constantFrom(1, 5, 40),
        used: fc.constantFrom(0, 2, 40),
      }),
      fc.record({ type: fc.constant('use' as const), client: fc.nat(3), used: fc.constantFrom(1, 40) }),
    ),
    { maxLength: 80, size: 'max' },
  )

  test('lets at most limit and burst begin in any span of time, whatever clients hold and give back', async () => {
    await fc.assert(
      fc.asyncProperty(rates, steps, async (rate, plan) => {
        await redis.del(KEY)
        const { holdMs, intervalMs } = divideBurst(rate)
        const held = Array.from({ length: 4 }, () => ({ permits: 0, takenUs: 0 }))
        const usesMs: number[] = []
        let nowUs = START_US
        const use = (client: number, wanted: number): void => {
          const mine = held[client] as (typeof held)[number]
          if (nowUs - mine.takenUs > holdMs * 1000) return
          const used = Math.min(mine.permits, wanted)
          mine.permits -= used
          for (let n = 0; n < used; n++) usesMs.push((nowUs - START_US) / 1000)
        }
        for (const step of plan) {
          if (step.type === 'pass') nowUs += Math.round(step.share * Math.max(holdMs, intervalMs) * 1000)
          else if (step.type === 'use') use(step.client, step.used)
          else {
            const { permits } = await take(rate, nowUs, step.wanted, held[step.client])
            held[step.client] = { permits, takenUs: nowUs }
            use(step.client, step.used)
          }
        }
        // The script counts in whole microseconds.
        expect(greatestBurst(usesMs, intervalMs)).toBeLessThanOrEqual(rate.burst + 0.001 / intervalMs + 1e-6)
      }),
      { numRuns: 100 },
    )
  })

  test('does not let permits pile up that pass from client to client unused', async () => {
    const rate = { records: 1000, perMs: 1000, burst: 100 } // held for 25 ms, in which 25 are refilled
    const at = (ms: number): number => START_US + ms * 1000
    await take(rate, at(0), 75)
    await take(rate, at(24), 24)
    const { permits: retaken } = await take(rate, at(24.9), 75, { permits: 75, takenUs: at(0) })
    const { permits: third } = await take(rate, at(48.8), 24)
    const { permits: fourth } = await take(rate, at(48.8), 24, { permits: 24, takenUs: at(24) })
    const { permits: fifth } = await take(rate, at(49.8), 75, { permits: retaken, takenUs: at(24.9) })
    expect(third + fourth + fifth).toBeLessThanOrEqual(100)
  })

  test('has a permit again when it said that it would, and no sooner', async () => {
    const rate = { records: 3, perMs: 1000, burst: 2 }
    expect(await take(rate, START_US, 5)).toEqual({ permits: 2, waitUs: 0 })
    const { permits, waitUs } = await take(rate, START_US + 1000, 1)
    expect(permits).toBe(0)
    expect(await take(rate, START_US + 1000 + waitUs - 2, 1)).toMatchObject({ permits: 0 })
    expect(await take(rate, START_US + 1000 + waitUs, 1)).toMatchObject({ permits: 1 })
  })

  test('is neither refilled nor stopped for longer by a clock that was set back', async () => {
    const rate = { records: 10, perMs: 1000, burst: 2 }
    await take(rate, START_US, 2)
    expect(await take(rate, START_US - 3_600_000_000, 1)).toEqual({ permits: 0, waitUs: 100_000 })
    expect(await take(rate, START_US - 3_600_000_000 + 100_000, 1)).toMatchObject({ permits: 1 })
  })

  test('is removed when it is full again', async () => {
    await take({ records: 10, perMs: 1000, burst: 2 }, START_US, 2)
    const ttlMs = await redis.pttl(KEY)
    expect(ttlMs).toBeGreaterThan(0)
    expect(ttlMs).toBeLessThanOrEqual(1200)
  })
})

describe('a token bucket in memory', () => {
  test('lets at most limit and burst begin in any span of time', () => {
    const passes = fc.array(
      fc.tuple(fc.double({ min: 0, max: 500, noNaN: true }), fc.integer({ min: 1, max: 50 })),
    )
    fc.assert(
      fc.property(rates, passes, (rate, plan) => {
        const intervalMs = rate.perMs / rate.records
        const bucket = new TokenBucket({ capacity: rate.burst, intervalMs }, 0)
        const usesMs: number[] = []
        let nowMs = 0
        for (const [passedMs, wanted] of plan) {
          nowMs += passedMs
          const { permits, waitMs } = bucket.look(nowMs, wanted)
          expect(waitMs === 0).toBe(permits > 0)
          bucket.take(permits)
          for (let n = 0; n < permits; n++) usesMs.push(nowMs)
        }
        expect(greatestBurst(usesMs, intervalMs)).toBeLessThanOrEqual(rate.burst + 1e-6)
      }),
    )
  })
})

describe('the rate limit of a service', () => {
  const logger = { debug: () => undefined } as unknown as SafeLogger
  const never = new AbortController().signal
  let connections: Connection[] = []

  async function limitOf(rate: Rate, change?: (connection: Connection) => Connection): Promise<RateLimit> {
    const connection = new Connection(redis, { name: 'test', commandTimeoutMs: 5000 })
    connections.push(connection)
    await connection.open(5000, never)
    return new RateLimit({
      options: { service: rate },
      connection: change?.(connection) ?? connection,
      key: KEY,
      logger,
      onWait: () => undefined,
    })
  }

  afterEach(() => {
    vi.useRealTimers()
    for (const connection of connections) connection.close()
    connections = []
  })

  async function missing(): Promise<number> {
    return Number((await redis.hget(KEY, 'bucket'))?.split(' ')[1])
  }

  async function countCalls(): Promise<number> {
    const stats = await redis.info('commandstats')
    const calls = [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].map(([, count]) => Number(count))
    return calls.reduce((sum, count) => sum + count, 0)
  }

  test('is kept by many clients together', async () => {
    const rate = { records: 1000, perMs: 1000, burst: 50 }
    const startedAtMs = performance.now()
    const limits = await Promise.all(Array.from({ length: 5 }, () => limitOf(rate)))
    await Promise.all(
      limits.flatMap((limit) =>
        Array.from({ length: 4 }, async () => {
          for (let n = 0; n < 20; n++) await limit.enter(never)
        }),
      ),
    )
    const elapsedMs = performance.now() - startedAtMs
    expect(400).toBeLessThanOrEqual(rate.burst + elapsedMs)
  })

  test('costs a client few commands, though its records begin one after the other', async () => {
    const limit = await limitOf({ records: 1000, perMs: 1000, burst: 1000 })
    await redis.config('RESETSTAT')
    for (let n = 0; n < 500; n++) await limit.enter(never)
    expect(await countCalls()).toBeLessThan(50)
  })

  test('is asked again when the time is over for which permits may be held', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const limit = await limitOf({ records: 1000, perMs: 100_000, burst: 100 })
    for (let n = 0; n < 4; n++) await limit.enter(never) // portions of 1, 2 and 4: three are left
    await redis.config('RESETSTAT')
    await limit.enter(never)
    expect(await countCalls()).toBe(0)
    vi.advanceTimersByTime(1001)
    await limit.enter(never)
    expect(await countCalls()).toBe(1)
  })

  test('gets back what a client holds and does not use', async () => {
    vi.useFakeTimers({ toFake: ['performance'] })
    const limit = await limitOf({ records: 1000, perMs: 100_000, burst: 100 })
    for (let n = 0; n < 4; n++) await limit.enter(never) // portions of 1, 2 and 4: three are left
    await limit.close()
    expect(await missing()).toBeLessThanOrEqual(4)
  })

  test('lets a record begin with the permit of one that was not begun', async () => {
    const limit = await limitOf({ records: 1000, perMs: 100_000, burst: 100 })
    for (let n = 0; n < 5; n++) (await limit.enter(never))?.giveBack()
    expect(await missing()).toBeLessThanOrEqual(1)
  })

  test('gives nothing out twice when answers are lost', async () => {
    let lost = 0
    const limit = await limitOf({ records: 1, perMs: 3_600_000, burst: 4 }, (connection) => {
      const run: Connection['run'] = async (command) => {
        const answer = await connection.run(command)
        if (lost++ < 2) throw new Error('the connection was cut')
        return answer
      }
      return { run } as Connection
    })
    expect(await limit.enter(never)).not.toBeNull()
    expect(Math.ceil(await missing())).toBe(3)
  })
})
