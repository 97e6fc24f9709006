/** Claiming: who wins, and with which code the others are refused. */
import type { LbsInfo, OwnedStream } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import type { Member } from './src/support/member.js'
import { RedisServer } from './src/support/redis-server.js'

/** Sessions that hold on a busy machine. */
const STEADY = {
  heartbeatTtlMs: 4000,
  lbsIdleTimeMs: 8000,
  probeIntervalMs: 200,
  claimStaggerMs: 20,
} as const

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

/** Streams that a client has given back and everybody may claim, and clients that were told and did not. */
async function offer(
  fleet: Fleet,
  count: number,
  ...claimers: readonly Member[]
): Promise<{ payloads: LbsInfo[]; released: OwnedStream[]; giver: Member }> {
  const giver = await fleet.join('giver', { onExpired: 'ignore', maxOwnedStreams: count })
  const names = Array.from({ length: count }, (_, index) => `stream-${index}`)
  await fleet.addAll(names)
  const released = await Promise.all(names.map((name) => giver.given(name)))
  await Promise.all(claimers.map((claimer) => claimer.init()))
  await Promise.all(released.map((stream) => giver.release(stream)))
  await eventually(
    'the first claimer was told of all',
    () => claimers[0]?.of('StreamExpired').length === count,
  )
  return {
    payloads: released.map(({ dataStreamName, idInLbs }) => ({ dataStreamName, idInLbs })),
    released,
    giver,
  }
}

async function codeOf(call: Promise<unknown>): Promise<string> {
  return await call.then(
    () => 'won',
    (error: unknown) => String((error as { code?: string }).code),
  )
}

describe.concurrent('claim', () => {
  test('by two clients at once is won by exactly one', async () => {
    await using fleet = new Fleet(server, STEADY)
    const a = fleet.make('a', { onExpired: 'ignore' })
    const b = fleet.make('b', { onExpired: 'ignore' })
    const { payloads } = await offer(fleet, 50, a, b)
    const outcomes = await Promise.all(
      payloads.map((payload) => Promise.all([codeOf(a.claim(payload)), codeOf(b.claim(payload))])),
    )
    for (const pair of outcomes) expect([...pair].sort()).toEqual(['ALREADY_CLAIMED', 'won'])
    const [winner, loser] = a.owned.length > 0 ? [a, b] : [b, a]
    const won = winner.client.owned.values().next().value as OwnedStream
    await expect(loser.claim(won)).rejects.toMatchObject({
      code: 'ALREADY_CLAIMED',
      message: 'already claimed',
    })
    expect(a.owned.length + b.owned.length).toBe(50)
  })

  test('of a stream that lives with its owner is refused and disturbs nobody', async () => {
    await using fleet = new Fleet(server, STEADY)
    const owner = await fleet.join('owner')
    await fleet.add('stream')
    const stream = await owner.given('stream')
    const other = await fleet.join('other')
    expect(await codeOf(other.claim(stream))).toBe('ALREADY_CLAIMED')
    await stream.commit('mine')
    expect(stream.owned).toBe(true)
  })

  test('of a stream that is finished, or an entry that never was, finds it gone', async () => {
    await using fleet = new Fleet(server, STEADY)
    const owner = await fleet.join('owner')
    await fleet.add('stream')
    const stream = await owner.given('stream')
    const { dataStreamName, idInLbs } = stream
    await owner.done(stream)
    const other = await fleet.join('other')
    for (const payload of [
      { dataStreamName, idInLbs },
      { dataStreamName: 'unknown', idInLbs: '1-1' },
      { dataStreamName: 'unknown', idInLbs: 'no id' },
      { dataStreamName: 'unknown', idInLbs: '99999999999999-0' },
    ]) {
      for (const member of [owner, other]) expect(await codeOf(member.claim(payload))).toBe('STREAM_GONE')
    }
    // An id that exists, under another name.
    const id = await fleet.add('real')
    await fleet.allOwned(['real'])
    expect(await codeOf(other.claim({ dataStreamName: 'false', idInLbs: id }))).toBe('STREAM_GONE')
  })

  test('of an own stream gives the same stream', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    await fleet.add('stream')
    const stream = await member.given('stream')
    expect(await member.claim(stream)).toBe(stream)
    expect(await member.client.claim({ dataStreamName: 'stream', idInLbs: stream.idInLbs })).toBe(stream)
    expect(member.of('StreamAdded')).toHaveLength(1)
  })

  test('many times at once gives one stream, and no StreamAdded', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = fleet.make('claimer', { onExpired: 'ignore' })
    const { payloads } = await offer(fleet, 1, member)
    const payload = payloads[0] as LbsInfo
    const streams = await Promise.all(Array.from({ length: 20 }, () => member.claim(payload)))
    expect(new Set(streams).size).toBe(1)
    expect(streams[0]).toMatchObject({ recovered: true, owned: true })
    expect(member.of('StreamAdded')).toEqual([])
  })

  test('of many streams in one tick travels together', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = fleet.make('claimer', { onExpired: 'ignore' })
    const { payloads } = await offer(fleet, 400, member)
    const before = await scriptCalls(fleet)
    const streams = await Promise.all(payloads.map((payload) => member.claim(payload)))
    expect(new Set(streams.map(({ fencingToken }) => fencingToken)).size).toBe(400)
    // 8 batches of 50; heartbeats, probes and the like come on top.
    expect((await scriptCalls(fleet)) - before).toBeLessThan(100)
  })

  test('beyond the capacity is refused, and possible again after a stream is done', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = fleet.make('small', { onExpired: 'ignore', maxOwnedStreams: 2 })
    const { payloads } = await offer(fleet, 2, member)
    const { idInLbs } = { idInLbs: await fleet.add('third') }
    const outcomes = await Promise.all(
      [...payloads, { dataStreamName: 'third', idInLbs }].map((payload) => codeOf(member.claim(payload))),
    )
    expect(outcomes).toEqual(['won', 'won', 'CAPACITY_REACHED'])
    expect(member.owned).toHaveLength(2)
    expect(member.client.health().capacity).toBe(0)
    await member.done(member.streams[0] as OwnedStream)
    expect(['won', 'ALREADY_CLAIMED']).toContain(
      await codeOf(member.claim({ dataStreamName: 'third', idInLbs })),
    )
    expect(member.client.owned.size).toBeLessThanOrEqual(2)
  })

  test('is refused before init, while it closes, and when it is closed', async () => {
    await using fleet = new Fleet(server, STEADY)
    const early = fleet.make('early')
    expect(await codeOf(early.claim({ dataStreamName: 'x', idInLbs: '1-1' }))).toBe('SESSION_LOST')
    const member = fleet.make('claimer', { onExpired: 'ignore' })
    const { payloads } = await offer(fleet, 20, member)
    const claims = payloads.map((payload) => codeOf(member.claim(payload)))
    const closing = member.close()
    expect(await codeOf(member.claim(payloads[0] as LbsInfo))).toBe('CLOSED')
    await closing
    for (const outcome of await Promise.all(claims)) expect(['won', 'CLOSED']).toContain(outcome)
    expect(await codeOf(member.claim(payloads[0] as LbsInfo))).toBe('CLOSED')
    // What was won in the last moment was given back.
    expect(member.owned).toEqual([])
    const heir = await fleet.join('heir', { claimMode: 'auto' })
    await eventually('the heir has all', () => heir.owned.length === 20)
  })

  test('of nonsense is refused', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    for (const nonsense of [
      undefined,
      null,
      {},
      { dataStreamName: 'x' },
      { dataStreamName: 1, idInLbs: 2 },
    ]) {
      expect(await codeOf(member.client.claim(nonsense as never))).toBe('OPTION_INVALID')
    }
  })
})

describe.concurrent('release', () => {
  test('offers the stream to the others, with its checkpoint and nobody as previous owner', async () => {
    await using fleet = new Fleet(server, STEADY)
    const giver = await fleet.join('giver')
    await fleet.add('stream', { of: 'all' })
    const stream = await giver.given('stream')
    await stream.commit('so far')
    const taker = await fleet.join('taker')
    await giver.release(stream)
    expect(stream.owned).toBe(false)
    expect(stream.signal.aborted).toBe(true)
    const taken = await taker.given('stream')
    expect(taken).toMatchObject({ checkpoint: 'so far', recovered: true, additionalInfo: { of: 'all' } })
    expect(taken.fencingToken).toBeGreaterThan(stream.fencingToken)
    expect(taker.of('StreamExpired')).toMatchObject([
      { previousOwner: null, payload: { dataStreamName: 'stream' } },
    ])
    expect(giver.of('StreamDisowned')).toEqual([])
    expect(await codeOf(stream.commit('late'))).toBe('STREAM_NOT_OWNED')
    expect(await codeOf(stream.release())).toBe('won')
    expect(await codeOf(stream.done())).toBe('STREAM_NOT_OWNED')
  })

  test('is offered again until somebody has taken it', async () => {
    await using fleet = new Fleet(server, STEADY)
    const giver = await fleet.join('giver')
    await fleet.add('stream')
    const stream = await giver.given('stream')
    await giver.release(stream)
    expect(await fleet.state.lock('stream')).toMatchObject({ owner: null })
    // Nobody was there; who comes later is told.
    const late = await fleet.join('late')
    expect(await late.given('stream')).toMatchObject({ recovered: true })
  })

  test('falls back to its former owner if nobody else wants it, told ever more seldom', async () => {
    await using fleet = new Fleet(server, { heartbeatTtlMs: 800, lbsIdleTimeMs: 1600 })
    const only = await fleet.join('only', { onExpired: 'ignore' })
    await fleet.add('stream')
    const stream = await only.given('stream')
    await only.release(stream)
    const { payload } = await only.next('StreamExpired')
    // After 800, 1600, 1600 ms...; the probe runs every 200 ms.
    await only.next('StreamExpired')
    await only.next('StreamExpired')
    expect(only.of('StreamExpired').length).toBeLessThanOrEqual(4)
    const again = await only.claim(payload)
    expect(again.fencingToken).toBeGreaterThan(stream.fencingToken)
    await again.done()
    await fleet.allDone()
  })

  test('in auto mode falls back to its former owner within its capacity', async () => {
    await using fleet = new Fleet(server, { heartbeatTtlMs: 800, lbsIdleTimeMs: 1600, claimMode: 'auto' })
    const only = await fleet.join('only', { maxOwnedStreams: 1 })
    await fleet.add('first')
    await only.release(await only.given('first'))
    await fleet.add('second')
    const second = await only.given('second')
    let most = 0
    await eventually('the first has waited for longer than lbsIdleTimeMs', async () => {
      most = Math.max(most, only.client.owned.size)
      const { redis, state } = fleet
      const rows = (await redis.xpending(state.lbsKey, state.group, '-', '+', 9)) as [
        string,
        string,
        number,
      ][]
      return rows.every(([, , idleMs]) => idleMs > 3000)
    })
    expect(most).toBe(1)
    await only.done(second)
    expect(await only.given('first', 1)).toMatchObject({ owned: false })
    await eventually('the first is owned again', () => only.owned[0] === 'first')
  })
})

async function scriptCalls({ redis }: Fleet): Promise<number> {
  const info = await redis.info('commandstats')
  return [...info.matchAll(/cmdstat_evalsha?:calls=(\d+)/g)].reduce(
    (sum, [, calls]) => sum + Number(calls),
    0,
  )
}
