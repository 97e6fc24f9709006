/** Client ids: two processes with one POD_NAME, and a process that comes back under its name. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { RedisServer } from './src/support/redis-server.js'

const TTL_MS = 2000
const FAST = {
  heartbeatTtlMs: TTL_MS,
  lbsIdleTimeMs: 4000,
  probeIntervalMs: 200,
  claimStaggerMs: 50,
} as const
/** What the start of a process and a busy machine may add. */
const SLACK_MS = 3000

// Processes take their time to start on a busy machine.
vi.setConfig({ testTimeout: 60_000 })

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

describe.concurrent('two processes with one POD_NAME', () => {
  test('cannot live at once: the second is refused, the first notices nothing', async () => {
    await using fleet = new Fleet(server, FAST)
    const first = await fleet.spawn('pod')
    await fleet.add('stream')
    const held = await first.given('stream')
    const second = fleet.start('pod')
    const refused = await second.told('refused')
    expect(refused).toMatchObject({ code: 'CONSUMER_ID_IN_USE' })
    expect(refused['message']).toContain('redis-consumer-pod')
    expect(refused['tookMs']).toBeGreaterThanOrEqual(TTL_MS)
    expect(refused['tookMs']).toBeLessThan(TTL_MS + 1000 + SLACK_MS)
    expect(await second.program.exited).toMatchObject({ code: 1 })
    expect(await first.call({ call: 'commit', fence: held.fencingToken, checkpoint: 'x' })).toMatchObject({
      ok: true,
    })
    expect(await first.call({ call: 'health' })).toMatchObject({ session: 'held', owned: 1 })
  })

  test('follow each other: what was killed comes back under its name within the TTL and a second', async () => {
    await using fleet = new Fleet(server, FAST)
    const first = await fleet.spawn('pod')
    await fleet.add('stream')
    const held = await first.given('stream')
    await first.call({ call: 'commit', fence: held.fencingToken, checkpoint: 'left here' })
    await first.kill()
    const second = fleet.start('pod')
    const ready = await second.told('ready')
    expect(ready['tookMs']).toBeLessThan(TTL_MS + 1000 + SLACK_MS)
    expect(await second.told('StreamAdded', 'stream')).toBeDefined()
    const again = await second.given('stream')
    expect(again).toMatchObject({ recovered: true, checkpoint: 'left here', idInLbs: held.idInLbs })
    expect(again.fencingToken).toBeGreaterThan(held.fencingToken)
    expect(await second.call({ call: 'done', fence: again.fencingToken })).toMatchObject({ ok: true })
    await fleet.allDone()
  })

  test('follow each other at once when the first has closed', async () => {
    await using fleet = new Fleet(server, { ...FAST, heartbeatTtlMs: 30_000, lbsIdleTimeMs: 60_000 })
    const first = await fleet.join('pod')
    await fleet.add('stream')
    await first.given('stream')
    await first.close()
    const second = await fleet.join('pod')
    expect(await second.given('stream')).toMatchObject({ recovered: true })
  })

  test('change places when the first hangs: awake again it owns nothing and keeps seeking', async () => {
    await using fleet = new Fleet(server, FAST)
    const first = await fleet.spawn('pod')
    await fleet.addAll(['one', 'two'])
    const held = [await first.given('one'), await first.given('two')]
    first.pause()
    const second = await fleet.spawn('pod')
    const taken = [await second.given('one'), await second.given('two')]
    for (const [index, stream] of taken.entries()) {
      expect(stream.recovered).toBe(true)
      expect(stream.fencingToken).toBeGreaterThan(held[index]?.fencingToken ?? 0)
    }
    first.resume()
    for (const { dataStreamName, fencingToken } of held) {
      expect(await first.told('StreamDisowned', dataStreamName)).toMatchObject({ reason: 'session-lost' })
      expect(await first.call({ call: 'look', fence: fencingToken })).toMatchObject({
        owned: false,
        aborted: true,
      })
      expect(await first.call({ call: 'done', fence: fencingToken })).toMatchObject({ ok: false })
    }
    await eventually(
      'the first is seeking a session',
      () => first.call({ call: 'health' }),
      (health) => health['session'] === 'seeking' && health['owned'] === 0,
    )
    // It does not disturb the second, and follows it when that one leaves.
    expect(await second.call({ call: 'health' })).toMatchObject({ session: 'held', owned: 2 })
    for (const { fencingToken } of taken) {
      expect(await second.call({ call: 'done', fence: fencingToken })).toMatchObject({ ok: true })
    }
    await second.call({ call: 'close' })
    await fleet.add('three')
    await first.given('three')
    expect(await first.call({ call: 'health' })).toMatchObject({ session: 'held', owned: 1 })
  })

  test('follow each other page by page, as far as there is room', async () => {
    await using fleet = new Fleet(server, FAST)
    const first = await fleet.spawn('pod')
    const names = Array.from({ length: 60 }, (_, index) => `stream-${index}`)
    await fleet.addAll(names)
    await fleet.allOwned(names)
    await first.kill()
    const second = await fleet.join('pod', { lbsRecoveryCount: 7, maxOwnedStreams: 40, onExpired: 'claim' })
    await eventually('it is full', () => second.client.owned.size === 40)
    expect(second.streams.every(({ recovered }) => recovered)).toBe(true)
    for (let left = 60; left > 0; left--) {
      const stream = await eventually('it owns one', () => second.client.owned.values().next().value)
      expect(second.client.owned.size).toBeLessThanOrEqual(40)
      await second.done(stream as NonNullable<typeof stream>)
    }
    await fleet.allDone()
  })

  test('of different services do not meet', async () => {
    await using orders = new Fleet(server, FAST)
    await using bills = new Fleet(server, FAST)
    await Promise.all([orders.join('pod'), bills.join('pod')])
    expect([...orders.members, ...bills.members].map(({ client }) => client.health().session)).toEqual([
      'held',
      'held',
    ])
  })
})

describe.concurrent('a client id', () => {
  test('comes from the option, else POD_NAME, else POD_IP', async () => {
    await using fleet = new Fleet(server, FAST)
    expect(fleet.make('from-option').client.id).toBe('redis-consumer-from-option')
    const ids = [
      { env: { POD_NAME: 'name', POD_IP: '10.0.0.1' }, id: 'redis-consumer-name' },
      { env: { POD_NAME: undefined, POD_IP: '10.0.0.1' }, id: 'redis-consumer-10.0.0.1' },
    ]
    for (const { env, id } of ids) {
      const consumer = fleet.start('unused', { env })
      expect(await consumer.told('ready')).toMatchObject({ id })
      await consumer.kill()
    }
    const nameless = fleet.start('unused', { env: { POD_NAME: undefined, POD_IP: undefined } })
    expect(await nameless.told('refused')).toMatchObject({ code: 'CONSUMER_ID_MISSING' })
  })

  test('may be an IPv6 address', async () => {
    await using fleet = new Fleet(server, { ...FAST, probeIntervalMs: 30_000 })
    const survivor = await fleet.join('survivor', { maxOwnedStreams: 1 })
    await fleet.allReading()
    const owner = await fleet.spawn('unused', { env: { POD_NAME: undefined, POD_IP: 'fd00::1:2' } })
    await fleet.addAll(['one', 'two'])
    await owner.given()
    await survivor.done((await survivor.next('StreamAdded')).stream)
    await owner.kill()
    // The event of the expired key tells, no probe comes in time.
    const { previousOwner } = await survivor.next('StreamExpired')
    expect(previousOwner).toBe('redis-consumer-fd00::1:2')
    await eventually('it was claimed', () => survivor.streams.length === 2)
  })

  test('whose heartbeat key is deleted or overwritten loses its session and begins another', async () => {
    await using fleet = new Fleet(server, FAST)
    const member = await fleet.join('pod')
    await fleet.add('stream')
    let stream = await member.given('stream')
    const key = fleet.state.heartbeatKey(member.client.id)
    for (const meddle of [() => fleet.redis.del(key), () => fleet.redis.set(key, 'somebody', 'PX', 300)]) {
      await meddle()
      expect(await member.next('StreamDisowned', 'stream')).toMatchObject({ reason: 'session-lost' })
      expect(stream.owned).toBe(false)
      expect(stream.signal.reason).toMatchObject({ code: 'SESSION_LOST' })
      const again = await member.given('stream', stream.fencingToken)
      expect(again).toMatchObject({ recovered: true, owned: true })
      stream = again
    }
    expect(member.client.health().session).toBe('held')
  })
})
