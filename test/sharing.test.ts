import { setTimeout as sleep } from 'node:timers/promises'
import type { OwnedStream } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import type { Member } from './src/support/member.js'
import { RedisServer } from './src/support/redis-server.js'

const STEADY = { heartbeatTtlMs: 4000, lbsIdleTimeMs: 8000 } as const

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

function names(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `stream-${index}`)
}

describe('clients of one service', () => {
  test.each([1, 2, 3, 10])('%d share the streams, each owned by one of them', async (count) => {
    await using fleet = new Fleet(server, STEADY)
    const members = await Promise.all(names(count).map((_, index) => fleet.join(`client-${index}`)))
    await fleet.allReading()
    const streams = names(20 * count)
    await fleet.addAll(streams)
    await fleet.allOwned(streams)
    await eventually(
      'each stream was given to one client',
      () =>
        members.flatMap((member) => member.of('StreamAdded').map(({ payload }) => payload.dataStreamName)),
      (given) => given.length === streams.length && new Set(given).size === streams.length,
    )
    expect(
      fleet
        .holdings()
        .map(({ stream }) => stream.dataStreamName)
        .sort(),
    ).toEqual([...streams].sort())
    for (const member of members) expect(member.owned.length).toBeGreaterThan(0)
    await Promise.all(fleet.holdings().map(({ owner, stream }) => owner.done(stream)))
    await fleet.allDone()
  })

  test('each get their part of 2,000 entries they have waited for', async () => {
    await using fleet = new Fleet(server, STEADY)
    await Promise.all(names(10).map((_, index) => fleet.join(`client-${index}`)))
    await fleet.allReading()
    const streams = names(2000)
    await fleet.addAll(streams)
    await fleet.allOwned(streams)
    const shares = Object.values(await fleet.state.shares())
    expect(shares).toHaveLength(10)
    // The budget is 1.2 over 10,000 entries; a fifth of that number scatters more.
    expect(Math.max(...shares)).toBeLessThanOrEqual(1.5 * 200)
    expect(Math.min(...shares)).toBeGreaterThanOrEqual(0.4 * 200)
  })

  test('serve what was added before the first of them came', async () => {
    await using fleet = new Fleet(server, STEADY)
    const streams = names(30)
    await fleet.addAll(streams)
    const member = await fleet.join('late')
    await fleet.allOwned(streams)
    await eventually('all were told', () => member.of('StreamAdded').length === 30)
    expect(member.of('StreamAdded').map(({ payload }) => payload.dataStreamName)).toEqual(streams)
    expect(member.of('StreamAdded').every(({ recovered }) => !recovered)).toBe(true)
  })

  test('of different services keep apart', async () => {
    await using orders = new Fleet(server, { ...STEADY, service: 'apart' })
    await using other = new Fleet(server, { ...STEADY, service: 'apart-2' })
    await Promise.all([orders.join('same-id'), other.join('same-id')])
    await Promise.all([orders.add('stream', { for: 'orders' }), other.add('stream', { for: 'other' })])
    const streams = await Promise.all(
      [orders, other].map(
        async (fleet) => await (fleet.members[0] as (typeof fleet.members)[0]).given('stream'),
      ),
    )
    expect(streams.map(({ additionalInfo }) => additionalInfo)).toEqual([{ for: 'orders' }, { for: 'other' }])
  })

  test('go on sharing while streams come and go', async () => {
    await using fleet = new Fleet(server, {
      ...STEADY,
      onStream: async (stream, member) => {
        await stream.commit('half')
        await member.done(stream)
      },
    })
    await Promise.all(names(3).map((_, index) => fleet.join(`client-${index}`)))
    for (let round = 0; round < 5; round++) await fleet.addAll(names(100))
    await fleet.allDone()
    const served = fleet.members.map((member) => member.of('StreamAdded').length)
    expect(served.reduce((sum, each) => sum + each, 0)).toBe(500)
    expect(fleet.members.flatMap(({ failures }) => failures)).toEqual([])
  })
})

describe('a data stream', () => {
  test('may have any name', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    const odd = [
      '__proto__',
      'constructor',
      ' with space ',
      'a:b:{c}',
      'ümläut ☃ 🧊',
      'line\nbreak',
      '*?[x]\\',
      'x'.repeat(500),
    ]
    for (const name of odd) {
      await fleet.add(name, { name })
      const stream = await member.given(name)
      expect(stream).toMatchObject({ dataStreamName: name, additionalInfo: { name } })
      await fleet.add(name)
      await eventually('the second waits', () => fleet.state.backlog(name))
      await stream.commit(name)
      expect(await fleet.state.checkpoint(name)).toBe(name)
      expect(member.client.owned.get(name)).toBe(stream)
      await member.done(stream)
      await member.done(await member.given(name, stream.fencingToken))
    }
    await fleet.allDone()
    expect(await fleet.state.deadLetters()).toEqual([])
  })
})

describe('a client with a limit', () => {
  test('never owns more than that, and takes the next when one is done', async () => {
    await using fleet = new Fleet(server, { ...STEADY, maxOwnedStreams: 3 })
    const member = await fleet.join('small')
    await fleet.addAll(names(12))
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, member.client.owned.size)
    }, 1)
    await eventually('it owns as many as it may', () => member.client.owned.size === 3)
    for (let served = 0; served < 12; served++) {
      const { stream } = await member.next('StreamAdded')
      expect(member.client.owned.size).toBeLessThanOrEqual(3)
      await member.done(stream)
    }
    clearInterval(watch)
    await fleet.allDone()
    expect(most).toBe(3)
  })

  test('leaves the rest to others', async () => {
    await using fleet = new Fleet(server, STEADY)
    await fleet.join('small', { maxOwnedStreams: 2 })
    await fleet.join('large')
    const streams = names(40)
    await fleet.addAll(streams)
    await fleet.allOwned(streams)
    expect((await fleet.state.shares())['redis-consumer-small']).toBeLessThanOrEqual(2)
  })
})

describe('a client that joins', () => {
  test('a group with a large backlog gets its share, within its limits', async () => {
    await using fleet = new Fleet(server, { ...STEADY, notificationBufferSize: 20 })
    const streams = names(5000)
    await fleet.addAll(streams)
    // Slow enough that the second finds most of it waiting.
    const work = async (stream: OwnedStream, member: Member): Promise<void> => {
      await sleep(20)
      await member.done(stream)
    }
    const limits = { maxOwnedStreams: 50, onStream: work }
    await fleet.join('first', limits)
    await eventually('the first has begun', () => (fleet.members[0]?.streams.length ?? 0) > 100)
    const second = await fleet.join('second', limits)
    await eventually(
      'all are done',
      async () => {
        for (const member of fleet.members) expect(member.client.owned.size).toBeLessThanOrEqual(50)
        return await fleet.state.leftovers()
      },
      ({ entries, locks }) => entries === 0 && locks.length === 0,
      { timeoutMs: 25_000 },
    )
    expect(second.streams.length).toBeGreaterThan(1000)
    expect(fleet.members.flatMap(({ failures }) => failures)).toEqual([])
  })
})
