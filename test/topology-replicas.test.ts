/** The option `replicas`: what owners write is waited for, and it is said when it did not arrive. */
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { RedisServer } from './src/support/redis-server.js'
import { TcpProxy } from './src/support/tcp-proxy.js'
import { TopologyCrew } from './src/support/topology-crew.js'

const WAITING = { heartbeatTtlMs: 2000, replicas: { count: 1, timeoutMs: 200 } } as const
const STEPS = 50

let master: RedisServer
let replica: RedisServer

beforeAll(async () => {
  master = await RedisServer.start()
  replica = await RedisServer.start({ args: ['--replicaof', '127.0.0.1', `${master.port}`] })
  await eventually(
    'the replica is in step',
    async () => ((await replica.client().role()) as unknown[])[3],
    (link) => link === 'connected',
    { timeoutMs: 20_000 },
  )
})

afterAll(async () => {
  replica.resume()
  await Promise.all([master[Symbol.asyncDispose](), replica[Symbol.asyncDispose]()])
})

describe('with replicas to wait for', () => {
  test('without any replica hundreds of streams are owned and committed, on the same connections', async () => {
    await using lonely = await RedisServer.start()
    const redis = lonely.client()
    const names = Array.from({ length: 500 }, (_, index) => `stream-${index}`)
    await using crew = new TopologyCrew(redis, 'orders', {
      heartbeatTtlMs: 2000,
      replicas: { count: 1, timeoutMs: 500 },
    })
    await Promise.all(names.map((name) => crew.add(name)))
    const { client } = await crew.join('first')
    await eventually(
      'all are owned',
      () => client.owned.size,
      (size) => size === names.length,
      { timeoutMs: 20_000 },
    )
    const made = await connectionsOf(redis)
    const calls = [...client.owned.values()].map((stream) => stream.commit('1'))
    for (const call of await Promise.allSettled(calls)) {
      expect(call).toMatchObject({ reason: { code: 'REPLICAS_BEHIND' } })
    }
    expect(await connectionsOf(redis)).toBe(made)
    expect(await redis.hlen('orders-checkpoints')).toBe(names.length)
  })

  test('what was committed is on a replica when commit resolves', async () => {
    const copy = replica.client({ readOnly: true })
    await using crew = new TopologyCrew(master.client(), 'orders', WAITING)
    const first = await crew.join('first')
    await master.client().script('FLUSH')
    await crew.add('stream')
    const held = await first.given('stream')
    expect(await copy.hget('orders-locks', 'stream')).toContain(String(held.fencingToken))
    for (let step = 0; step < STEPS; step++) {
      await held.commit(String(step))
      expect(await copy.hget('orders-checkpoints', 'stream')).toBe(String(step))
    }
    await first.done(held)
    expect(await copy.hexists('orders-locks', 'stream')).toBe(0)
  })

  // Since Redis 7.2 WAIT knows only of what its own connection has written, and the second try writes nothing new.
  test.each(['commit', 'done', 'release'] as const)(
    'the answer to %s was lost, so it is sent again: it is waited for all the same',
    async (operation) => {
      await using proxy = await TcpProxy.listen(master)
      const name = `${operation} again`
      await using crew = new TopologyCrew(master.client({ port: proxy.port }), 'orders', WAITING)
      const member = await crew.join('first')
      await crew.add(name)
      const stream = await member.given(name)
      replica.pause()
      try {
        proxy.dropReplies((request) => /eval/i.test(request) && request.includes(name))
        const call = operation === 'commit' ? stream.commit('1') : stream[operation]()
        await expect(call).rejects.toMatchObject({ code: 'REPLICAS_BEHIND', operation })
        expect(proxy.repliesDropped).toBe(1)
      } finally {
        replica.resume()
      }
    },
  )

  test('a replica that hangs holds nothing up for long, and its absence is said', async () => {
    await using crew = new TopologyCrew(master.client(), 'orders', WAITING)
    const first = await crew.join('first')
    await crew.add('a')
    const a = await first.given('a')
    replica.pause()
    try {
      await crew.add('b')
      const b = await first.given('b')
      await expect(b.commit('1')).rejects.toMatchObject({ code: 'REPLICAS_BEHIND', operation: 'commit' })
      expect(b.owned).toBe(true)
      expect(await master.client().hget('orders-checkpoints', 'b')).toBe('1')
      await expect(a.done()).rejects.toMatchObject({ code: 'REPLICAS_BEHIND', operation: 'done' })
      expect(a.owned).toBe(false)
      await expect(a.done()).resolves.toBeUndefined()
      expect(first.client.health().session).toBe('held')
      replica.resume()
      await eventually('the replica has caught up', () => b.commit('2').then(() => true))
      await first.done(b)
    } finally {
      replica.resume()
    }
  })
})

/** How many connections the server has been asked for. */
async function connectionsOf(redis: Redis): Promise<number> {
  return Number(/total_connections_received:(\d+)/.exec(await redis.info('stats'))?.[1])
}
