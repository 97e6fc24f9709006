/** Streams move to clients that have too few: their owners are asked, and give them. */
import { setTimeout as delay } from 'node:timers/promises'
import type { OwnedStream } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet, type FleetOptions } from './src/support/fleet.js'
import type { Member } from './src/support/member.js'
import { RedisServer } from './src/support/redis-server.js'

const OPTIONS = {
  heartbeatTtlMs: 4000,
  lbsIdleTimeMs: 8000,
  probeIntervalMs: 100,
  claimMode: 'auto',
  rebalance: { settleMs: 300, timeoutMs: 5000 },
} as const

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

/** What an application does that listens: it ends what it is at, commits, and gives the stream back. */
function listening(stream: OwnedStream, member: Member): void {
  stream.signal.addEventListener('abort', () => {
    if (!stream.owned) return
    void delay(5)
      .then(() => stream.commit('handed over'))
      .then(() => member.release(stream))
      .catch((error: unknown) => member.failures.push(error))
  })
}

function sizes(fleet: Fleet): number[] {
  return fleet.members.map(({ client }) => client.owned.size)
}

/** How often streams have changed owners since they were added. */
function moves(fleet: Fleet, streams: number): number {
  return fleet.members.reduce((sum, member) => sum + member.streams.length, 0) - streams
}

async function fleetOf(clients: number, streams: number, options: FleetOptions = {}): Promise<Fleet> {
  const fleet = new Fleet(server, { ...OPTIONS, onStream: listening, ...options })
  await Promise.all(names(clients).map((_, index) => fleet.join(`client-${index}`)))
  await fleet.allReading()
  await fleet.addAll(names(streams))
  await fleet.allOwned(names(streams))
  return fleet
}

describe.concurrent('a client that joins', () => {
  test.each(['auto', 'manual'] as const)(
    'is given its share by those that have more, from their checkpoints, with the fewest moves, in %s mode',
    async (claimMode) => {
      await using fleet = await fleetOf(1, 40, { claimMode })
      const second = await fleet.join('second')
      await eventually(
        'both have as many',
        () => sizes(fleet),
        ([a, b]) => a === 20 && b === 20,
      )
      expect(moves(fleet, 40)).toBe(20)
      expect(
        second.streams.every(({ checkpoint, recovered }) => checkpoint === 'handed over' && recovered),
      ).toBe(true)
      const { session } = second.client.health()
      expect(session).toBe('held')
      expect(fleet.members.flatMap(({ failures }) => failures)).toEqual([])
      expect(fleet.members.flatMap((member) => member.of('StreamDisowned'))).toEqual([])
    },
  )

  test('is given nothing by an application that has not read its signals', async () => {
    await using fleet = await fleetOf(1, 20, { onStream: () => undefined })
    await eventually('all are read', () => fleet.members[0]?.of('StreamAdded').length === 20)
    await fleet.join('second')
    await eventually('a plan was made', () => fleet.redis.hget(`${fleet.service}-plan`, 'plan'))
    await delay(500)
    expect(sizes(fleet)).toEqual([20, 0])
    expect(fleet.members[0]?.client.health()).toMatchObject({ unmovable: 20, moving: 0 })
  })

  test('is given what an application has not read of, without a word to it', async () => {
    await using fleet = await fleetOf(1, 20, { reads: false })
    const second = await fleet.join('second', { reads: true })
    await eventually(
      'both have as many',
      () => sizes(fleet),
      ([a, b]) => a === 10 && b === 10,
    )
    const [first] = fleet.members
    first?.read()
    await eventually('the first has read', () => first?.of('StreamAdded').length === 10)
    expect(first?.of('StreamDisowned')).toEqual([])
    expect(second.streams).toHaveLength(10)
  })

  test('is given what an owner does not give back in time, who is told', async () => {
    const stubborn = (stream: OwnedStream): boolean => stream.signal.aborted
    await using fleet = await fleetOf(1, 10, {
      onStream: stubborn,
      closeTimeoutMs: 200,
      rebalance: { settleMs: 300, timeoutMs: 200 },
    })
    await eventually('the signals are read', () => fleet.members[0]?.client.health().unmovable === 0)
    await fleet.join('second')
    await eventually(
      'both have as many',
      () => sizes(fleet),
      ([a, b]) => a === 5 && b === 5,
    )
    const disowned = fleet.members[0]?.of('StreamDisowned') ?? []
    expect(disowned.map(({ reason }) => reason)).toEqual(Array.from({ length: 5 }, () => 'rebalanced'))
    const [first] = fleet.members[0]?.streams.filter(({ owned }) => !owned) ?? []
    expect(first?.signal.reason).toMatchObject({ code: 'REBALANCING' })
  })

  test('is given nothing where rebalancing is off, until somebody asks for it', async () => {
    await using fleet = await fleetOf(1, 10, { rebalance: 'off' })
    await fleet.join('second', { rebalance: { settleMs: 100 } })
    await delay(700)
    expect(sizes(fleet)).toEqual([10, 0])
  })

  test('is given as many more as it weighs, and no more than it may own', async () => {
    await using fleet = await fleetOf(1, 40)
    await fleet.join('heavy', { weight: 3 })
    await eventually(
      'the heavy one has three quarters',
      () => sizes(fleet),
      ([a, b]) => a === 10 && b === 30,
    )
    await fleet.join('small', { maxOwnedStreams: 2 })
    await eventually('the small one is full', () => sizes(fleet)[2] === 2)
    await eventually(
      'the others kept their shares',
      () => sizes(fleet),
      ([a = 0, b = 0]) => a + b === 38,
    )
  })
})

describe.concurrent('streams at rest', () => {
  test('do not move', async () => {
    await using fleet = await fleetOf(3, 60)
    await delay(1500)
    const before = moves(fleet, 60)
    await delay(1500)
    expect(moves(fleet, 60)).toBe(before)
  })
})

describe.concurrent('an application', () => {
  test('has streams moved at once', async () => {
    await using fleet = await fleetOf(1, 10, { rebalance: { settleMs: 1_000_000 } })
    const second = await fleet.join('second')
    const events: unknown[] = []
    second.client.on('rebalance', (event) => events.push(event))
    await fleet.allReading()
    expect(await second.client.rebalance()).toEqual({ moves: 5, level: 5 })
    await eventually(
      'both have as many',
      () => sizes(fleet),
      ([a, b]) => a === 5 && b === 5,
    )
    expect(events[0]).toEqual({ role: 'planned', moves: 5, level: 5 })
    expect(await second.client.rebalance()).toEqual({ moves: 0, level: 5 })
  })

  test('drains a client, which goes on without streams', async () => {
    await using fleet = await fleetOf(2, 20)
    const [first, second] = fleet.members as [Member, Member]
    await first.client.drain()
    expect(first.client.owned.size).toBe(0)
    expect(first.client.health()).toMatchObject({ session: 'held', draining: true, capacity: 0 })
    await eventually('the other has all', () => second.client.owned.size === 20)
    await fleet.addAll(['new-0', 'new-1'])
    await second.given('new-1')
    expect(first.client.owned.size).toBe(0)
  })
})

describe.concurrent('clients that together may own less than there is', () => {
  test('say so, and what waits is taken as soon as there is room', async () => {
    const seen: number[] = []
    const metrics = { probe: ({ waiting }: { waiting: number }) => void seen.push(waiting) }
    await using fleet = new Fleet(server, { ...OPTIONS, onStream: listening, maxOwnedStreams: 5, metrics })
    await Promise.all(['a', 'b'].map((name) => fleet.join(name)))
    await fleet.allReading()
    await fleet.addAll(names(14))
    const full = { level: Number.POSITIVE_INFINITY, living: 2, waiting: 4 }
    await eventually(
      'both are full and say what waits',
      () => fleet.members.map(({ client }) => client.health()),
      (all) => all.every(({ capacity, fleet: found }) => capacity === 0 && found?.waiting === full.waiting),
    )
    for (const { client } of fleet.members) expect(client.health()).toMatchObject({ share: 5, fleet: full })
    expect(seen).toContain(4)
    const [first] = fleet.members as [Member]
    await first.done([...first.client.owned.values()][0] as OwnedStream)
    await eventually('another is taken', () => sizes(fleet)[0] === 5)
    await fleet.join('c', { maxOwnedStreams: 2 })
    await eventually('what fits is taken', () => sizes(fleet)[2] === 2)
    await eventually('one still waits', () => first.client.health().fleet?.waiting === 1)
    await fleet.join('d', { maxOwnedStreams: 100 })
    await eventually('nothing waits', () => first.client.health().fleet?.waiting === 0)
    await eventually('all are owned', () => sizes(fleet).reduce((sum, size) => sum + size, 0) === 13)
  })
})

describe.concurrent('a deploy with surge', () => {
  test('moves each stream once, to the client that is new, without any rebalancing', async () => {
    await using fleet = await fleetOf(3, 60, { rebalance: { settleMs: 1_000_000 } })
    const olds = [...fleet.members]
    await eventually(
      'all have as many',
      async () => {
        await olds[0]?.client.rebalance()
        return sizes(fleet)
      },
      (all) => all.every((size) => size === 20),
    )
    const before = moves(fleet, 60)
    for (const [index, old] of olds.entries()) {
      await fleet.join(`new-${index}`)
      await fleet.allReading()
      await old.close()
      await fleet.allOwned(names(60))
      fleet.members.splice(fleet.members.indexOf(old), 1)
    }
    const given = [...olds, ...fleet.members].reduce((sum, member) => sum + member.streams.length, 0)
    expect(given - 60 - before).toBe(60)
    expect(sizes(fleet)).toEqual([20, 20, 20])
  })
})
