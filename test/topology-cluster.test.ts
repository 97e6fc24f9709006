/** Cluster: the node that serves a service's slot fails, the slot moves, a node is added, while streams are owned. */
import { RedisStreamClient } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { RedisCluster } from './src/support/cluster.js'
import { eventually } from './src/support/eventually.js'
import { TopologyCrew } from './src/support/topology-crew.js'

/** With a look so seldom, all that is in time comes from what the client notices itself. */
const AUTO = { heartbeatTtlMs: 1000, lbsIdleTimeMs: 60_000, claimMode: 'auto' } as const
const NAMES = Array.from({ length: 12 }, (_, index) => `stream-${index}`)
const MIGRATION_HOLDS_MS = 1_500

let cluster: RedisCluster

beforeAll(async () => {
  cluster = await RedisCluster.start()
}, 60_000)

afterAll(async () => {
  await cluster[Symbol.asyncDispose]()
})

describe('on Redis Cluster', () => {
  test('a service name without a hash tag is refused', () => {
    expect(() => new RedisStreamClient(cluster.client(), 'orders', { consumerId: 'first' })).toThrow(
      expect.objectContaining({ code: 'SERVICE_NAME_INVALID' }),
    )
  })

  test('events of silent clients come from the node that owns the slot', async () => {
    const service = '{events}'
    const redis = cluster.client()
    const sources = new Set<string>()
    const metrics = { expiryEvent: ({ source }: { source: string }) => void sources.add(source) }
    await using crew = new TopologyCrew(redis, service, { ...AUTO, metrics })
    await redis.xgroup('CREATE', `${service}-input`, `${service}-group`, '0', 'MKSTREAM')
    await crew.add('stream')
    await redis.xreadgroup(
      ...(['GROUP', `${service}-group`, 'redis-consumer-ghost:t'] as const),
      ...(['STREAMS', `${service}-input`, '>'] as const),
    )
    await redis.set(`${service}-heartbeat:redis-consumer-ghost`, 't', 'PX', 1000)
    const first = await crew.join('first')
    const held = await first.given('stream')
    await eventually(
      'the event is heard',
      () => [...sources],
      (heard) => heard.includes('keyspace'),
    )
    expect(first.client.health().connections.hints).toEqual(['ready', 'ready', 'ready'])
    await first.done(held)
  })

  test('owners wait for the replica of the node that has their slot', async () => {
    const service = '{waiting}'
    const replicas = { count: 1, timeoutMs: 200 }
    await using crew = new TopologyCrew(cluster.client(), service, { ...AUTO, replicas })
    const first = await crew.join('first')
    await crew.add('stream')
    const held = await first.given('stream')
    const replica = await cluster.replicaOf(await cluster.ownerOf(`${service}-input`))
    await replica.redis.readonly()
    await held.commit('1')
    expect(await replica.redis.hget(`${service}-checkpoints`, 'stream')).toBe('1')
    replica.server.pause()
    try {
      await expect(held.commit('2')).rejects.toMatchObject({ code: 'REPLICAS_BEHIND' })
    } finally {
      replica.server.resume()
    }
    await first.done(held)
  })

  test('streams stay owned while their slot moves, and nothing is lost', async () => {
    const service = 'orders-{slot}'
    const redis = cluster.client()
    // A migrating slot answers TRYAGAIN to scripts: sessions live on, for a heartbeat is about one key.
    await using crew = new TopologyCrew(redis, service, AUTO)
    await crew.join('first')
    const second = await crew.join('second')
    await Promise.all(NAMES.map((name) => crew.add(name)))
    await crew.allOwned(NAMES)
    const fences = crew.fences()
    const source = await cluster.ownerOf(`${service}-input`)
    const target = (await cluster.masters()).find(({ id }) => id !== source.id)
    if (target === undefined) throw new Error('no other master')
    await cluster.moveSlot(`${service}-input`, target, async () => {
      const [held] = [...second.client.owned.values()]
      const committed = held?.commit('during the move')
      void crew.add('added during the move').catch(() => undefined)
      const until = performance.now() + MIGRATION_HOLDS_MS
      await eventually('time has passed', () => performance.now() > until, Boolean)
      committed?.catch(() => undefined)
    })
    expect((await cluster.ownerOf(`${service}-input`)).id).toBe(target.id)
    await crew.allOwned(NAMES)
    await Promise.all(
      [...crew.holdings().values()].map(({ stream }) => stream.commit(`after ${stream.dataStreamName}`)),
    )
    await crew.add('added after the move')
    await crew.allOwned(['added after the move'])
    for (const [name, fence] of crew.fences()) expect(fence).toBeGreaterThanOrEqual(fences.get(name) ?? 0)
    expect(await redis.xlen(`${service}-dead`)).toBe(0)
    await Promise.all([...crew.holdings().values()].map(({ owner, stream }) => owner.done(stream)))
  }, 60_000)

  test('streams are owned again after the node of their slot has failed over', async () => {
    const service = '{failover}'
    const redis = cluster.client()
    await using crew = new TopologyCrew(redis, service, AUTO)
    await crew.join('first')
    await crew.join('second')
    await Promise.all(NAMES.map((name) => crew.add(name)))
    await crew.allOwned(NAMES)
    await Promise.all([...crew.holdings()].map(([name, { stream }]) => stream.commit(`of ${name}`)))
    const fences = crew.fences()
    const failing = await cluster.ownerOf(`${service}-input`)
    await failing.redis.wait(1, 5000)
    await failing.server.kill()
    await eventually(
      'a replica has taken over',
      () => cluster.ownerOf(`${service}-input`),
      ({ id }) => id !== failing.id,
      { timeoutMs: 20_000, everyMs: 50 },
    )
    await crew.allOwned(NAMES, fences)
    for (const [name, { stream }] of crew.holdings()) expect(stream.checkpoint).toBe(`of ${name}`)
    await crew.add('added to the new master')
    await crew.allOwned(['added to the new master'])
    expect(await redis.xlen(`${service}-dead`)).toBe(0)
    await eventually(
      'hints are heard from the masters there are now',
      () => crew.members.map(({ client }) => client.health().connections.hints.join()),
      (hints) => hints.every((statuses) => statuses === 'ready,ready,ready'),
      { timeoutMs: 10_000 },
    )
    await Promise.all([...crew.holdings().values()].map(({ owner, stream }) => owner.done(stream)))
    await failing.server.startAgain()
  }, 60_000)

  test('a slot can move to a node that was added while its streams are owned', async () => {
    const service = '{grown}'
    await using crew = new TopologyCrew(cluster.client(), service, AUTO)
    const first = await crew.join('first')
    await crew.add('stream')
    const held = await first.given('stream')
    const added = await cluster.addNode()
    await cluster.moveSlot(`${service}-input`, added)
    await held.commit('on the new node')
    await crew.add('another')
    await crew.allOwned(['stream', 'another'])
    expect(await added.redis.hget(`${service}-checkpoints`, 'stream')).toBe('on the new node')
    await eventually(
      'hints are heard from the new node too',
      () => first.client.health().connections.hints.filter((status) => status === 'ready').length,
      (ready) => ready === 4,
      { timeoutMs: 10_000 },
    )
    await Promise.all([...crew.holdings().values()].map(({ owner, stream }) => owner.done(stream)))
  }, 60_000)
})
