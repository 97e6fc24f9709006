/** Sentinel: the master fails over to its replica while streams are owned. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { SentinelSet } from './src/support/sentinel.js'
import { TopologyCrew } from './src/support/topology-crew.js'

/** Shorter than a failover takes: sessions end, and everything is taken again on the new master. */
const SHORT = { heartbeatTtlMs: 1000 } as const
const NAMES = Array.from({ length: 12 }, (_, index) => `stream-${index}`)
const REPLICATED_MS = 5_000

let set: SentinelSet

beforeAll(async () => {
  set = await SentinelSet.start()
})

afterAll(async () => {
  await set[Symbol.asyncDispose]()
})

describe('clients behind sentinels', () => {
  test('own their streams again after a failover, with checkpoints and growing fences', async () => {
    const [master, replica] = set.servers
    const redis = set.client()
    await using crew = new TopologyCrew(redis, 'orders', { ...SHORT, claimMode: 'auto' })
    await crew.join('first')
    await crew.join('second')
    await Promise.all(NAMES.map((name) => crew.add(name)))
    await crew.allOwned(NAMES)
    await Promise.all([...crew.holdings()].map(([name, { stream }]) => stream.commit(`of ${name}`)))
    const fences = crew.fences()
    // A sentinel that hangs is met first: whoever waits for it for ever never finds the new master.
    const [hanging] = set.sentinels
    hanging?.pause()
    expect(await redis.wait(1, REPLICATED_MS)).toBe(1)
    await master.kill()
    await set.masterIs(replica)
    await crew.allOwned(NAMES, fences)
    hanging?.resume()
    for (const [name, { stream }] of crew.holdings()) {
      expect(stream.checkpoint).toBe(`of ${name}`)
      expect(stream.recovered).toBe(true)
    }
    const added = await crew.add('added to the new master')
    await crew.allOwned(['added to the new master'])
    expect(added).toMatch(/^\d+-\d+$/)
    await eventually(
      'hints are heard from the new master, its flags set',
      async () => [
        ...crew.members.flatMap(({ client }) => client.health().connections.hints),
        String((await replica.client().config('GET', 'notify-keyspace-events')) as unknown),
      ],
      ([first, second, flags]) =>
        first === 'ready' && second === 'ready' && /(?=.*K)(?=.*[xA])/.test(String(flags)),
      { timeoutMs: 10_000 },
    )
    await Promise.all([...crew.holdings().values()].map(({ owner, stream }) => owner.done(stream)))
    expect(await redis.xlen('orders-input')).toBe(0)
  }, 60_000)
})
