/** Whoever else uses the same Redis, and whatever a producer puts into an entry. */
import { LbsProducer } from '@redis-stream-client/client'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { RedisServer } from './src/support/redis-server.js'
import { ServiceState } from './src/support/service-state.js'
import { TopologyCrew } from './src/support/topology-crew.js'

const KIB = 1024
const MIB = 1024 * 1024
/** One `x` is two quotes and a colon away from being all there is in `{"x":"..."}`. */
const INFO_FRAME_BYTES = 8

const NAMES: Record<string, string> = {
  'of one byte': 'x',
  'of 64 KiB': 'n'.repeat(64 * KIB),
  'with newlines and other control characters': 'a\nb\r\nc\u0000d\u007fe',
  'in many scripts': 'заказы/注文/🦀/é/é',
  'with the characters of globs': 'a*b?c[d-e]\\*f{g}h',
  'with the characters of regular expressions': '^(a|b)+$.*\\d{2}[^c]%d%s%%',
  'with the separators of records': ' 1-0 2  ::;,"\' ',
  'called __proto__': '__proto__',
  'called constructor': 'constructor',
}

let server: RedisServer
let redis: Redis

beforeAll(async () => {
  server = await RedisServer.start()
  redis = server.client()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

beforeEach(async () => {
  await redis.flushall()
})

describe('a data stream', () => {
  test.each(Object.entries(NAMES))(
    '%s is owned, committed, queued for, handed over and done',
    async (_, name) => {
      await using crew = new TopologyCrew(redis, 'orders')
      const first = await crew.join('first')
      await crew.add(name, { n: 1 })
      const held = await first.given(name)
      expect(held.additionalInfo).toEqual({ n: 1 })
      await held.commit(`checkpoint of ${name.slice(0, 100)}`)
      await crew.add(name, { n: 2 })
      await eventually('the second entry waits', () => redis.llen(`orders-backlog:${name}`))
      const second = await crew.join('second')
      await first.release(held)
      const taken = await second.given(name)
      expect(taken.checkpoint).toBe(`checkpoint of ${name.slice(0, 100)}`)
      await second.done(taken)
      const next = await eventually(
        'the second entry is served',
        () =>
          [first, second]
            .flatMap(({ streams }) => streams)
            .find(({ additionalInfo }) => additionalInfo['n'] === 2),
        (stream) => stream !== undefined,
      )
      await next?.done()
      const left = await new ServiceState(redis, 'orders').leftovers()
      expect(left).toEqual({ entries: 0, pending: 0, locks: [], checkpoints: [], backlogs: [] })
    },
  )

  test('longer than maxNameBytes, or with more Info than maxInfoBytes, is refused and put with the dead letters', async () => {
    const limits = { maxNameBytes: 8, maxInfoBytes: 100 }
    const producer = new LbsProducer(redis, 'orders', limits)
    const largest = { x: 'é'.repeat((100 - INFO_FRAME_BYTES) / 2) }
    await expect(producer.add('ééééé')).rejects.toMatchObject({ code: 'LBS_MESSAGE_INVALID' })
    await expect(producer.add('s', { x: `${largest.x}!` })).rejects.toThrow(
      /101 bytes, more than maxInfoBytes/,
    )
    await using crew = new TopologyCrew(redis, 'orders', limits)
    const first = await crew.join('first')
    await crew.add('too long a name')
    await crew.add('s', { x: 'y'.repeat(200) })
    await producer.add('éééé', largest)
    expect((await first.given('éééé')).additionalInfo).toEqual(largest)
    const state = new ServiceState(redis, 'orders')
    const letters = await eventually(
      'both are dead letters',
      () => state.deadLetters(),
      ({ length }) => length === 2,
    )
    expect(letters.map(({ reason }) => reason)).toEqual(['malformed', 'malformed'])
    expect(new Set(letters.map(({ error }) => /maxNameBytes|maxInfoBytes/.exec(error)?.[0]))).toEqual(
      new Set(['maxInfoBytes', 'maxNameBytes']),
    )
    await Promise.all(first.streams.map((stream) => first.done(stream)))
  })

  test('has an Info of 1 MiB at most', async () => {
    await using crew = new TopologyCrew(redis, 'orders')
    const first = await crew.join('first')
    const x = 'y'.repeat(MIB - INFO_FRAME_BYTES)
    await crew.add('s', { x })
    const held = await first.given('s')
    expect(held.additionalInfo['x']).toHaveLength(x.length)
    await first.done(held)
    await expect(crew.add('s', { x: `${x}!` })).rejects.toMatchObject({ code: 'LBS_MESSAGE_INVALID' })
  })

  test('with numbers or nesting that would not arrive as sent goes to the dead letters', async () => {
    await using crew = new TopologyCrew(redis, 'orders')
    await crew.join('first')
    const deep = `${'['.repeat(5000)}${']'.repeat(5000)}`
    for (const info of ['{"x":0.12345678901234567890}', '{"id":1e400}', `{"deep":${deep}}`]) {
      await redis.xadd('orders-input', '*', 'lbs-input', `{"DataStreamName":"s","Info":${info}}`)
    }
    await eventually(
      'all are dead letters',
      () => redis.xlen('orders-dead'),
      (length) => length === 3,
    )
    const [first] = await new ServiceState(redis, 'orders').deadLetters()
    expect(first?.fields['lbs-input']).toContain('0.12345678901234567890')
  })

  test('is not held up by a waiting entry with more fields than a script can pass on', async () => {
    await using crew = new TopologyCrew(redis, 'orders')
    const first = await crew.join('first')
    await crew.add('s')
    const held = await first.given('s')
    const fields = Array.from({ length: 10_000 }, (_, index) => [`field ${index}`, 'x']).flat()
    await redis.xadd('orders-input', '*', 'lbs-input', '{"DataStreamName":"s"}', ...fields)
    await crew.add('s', { n: 2 })
    await eventually('the second entry waits', () => redis.llen('orders-backlog:s'))
    await first.done(held)
    const next = await first.given('s', held.fencingToken)
    expect(next.additionalInfo).toEqual({ n: 2 })
    await first.done(next)
    expect(await redis.xlen('orders-dead')).toBe(1)
  })
})

describe('a neighbour', () => {
  test('whose service name begins or ends like ours shares nothing with us', async () => {
    const services = ['orders', 'orders-input', 'orders.', 'orders-heartbeat', 'Orders', 'my-orders']
    const crews = services.map((service) => new TopologyCrew(redis, service))
    try {
      const members = await Promise.all(crews.map((crew) => crew.join('same-id')))
      await Promise.all(crews.map((crew) => crew.add('stream', { of: crew.service })))
      const held = await Promise.all(members.map((member) => member.given('stream')))
      expect(held.map(({ additionalInfo }) => additionalInfo['of'])).toEqual(services)
      await members[0]?.close()
      await eventually('ours is reserved', () => redis.hget('orders-locks', 'stream'))
      expect(members.slice(1).every(({ owned }) => owned.length === 1)).toBe(true)
      for (const member of members) expect(member.of('StreamExpired')).toEqual([])
    } finally {
      await Promise.all(crews.map((crew) => crew[Symbol.asyncDispose]()))
    }
  })

  test('with foreign keys that expire beside ours wakes nobody', async () => {
    await using crew = new TopologyCrew(redis, 'orders')
    const first = await crew.join('first')
    await crew.add('stream')
    const held = await first.given('stream')
    for (const key of [
      'orders-heartbeats',
      'orders-heartbeat',
      'orders-heartbeat:',
      'orders-heartbeat:x:y z',
    ]) {
      await redis.set(key, 'foreign', 'PX', 1)
    }
    await redis.publish('orders-failover', 'nonsense')
    await redis.publish('orders-failover', '{"type":"dead"}')
    await redis.publish(
      'orders-failover',
      JSON.stringify({ type: 'dead', consumer: first.client.health().consumer }),
    )
    await redis.publish('orders-failover', 'x'.repeat(MIB))
    await held.commit('still ours')
    expect(first.notifications).toHaveLength(1)
    expect(first.errors).toEqual([])
    await first.done(held)
  })

  test('who has the backlog key of one stream for something else costs the others nothing', async () => {
    await redis.set('orders-backlog:s', 'a text where a list belongs')
    await using crew = new TopologyCrew(redis, 'orders')
    const first = await crew.join('first')
    await crew.add('s')
    const held = await first.given('s')
    await crew.add('s')
    await crew.add('t')
    await first.done(await first.given('t'))
    await eventually('the entry that cannot wait is a dead letter', () => redis.xlen('orders-dead'))
    await redis.del('orders-backlog:s')
    await first.done(held)
  })

  test('who has one of our keys for something else costs no entry', async () => {
    await redis.set('orders-checkpoints', 'a text where a hash belongs')
    await using crew = new TopologyCrew(redis, 'orders')
    const first = await crew.join('first')
    await crew.add('stream')
    await eventually('it has been tried', async () => (await redis.info('errorstats')).includes('WRONGTYPE'))
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(await redis.xlen('orders-dead')).toBe(0)
    await redis.del('orders-checkpoints')
    await first.done(await first.given('stream'))
  })
})
