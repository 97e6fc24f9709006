/** Applications that read their notifications slowly, or not at all. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Notification } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { RedisServer } from './src/support/redis-server.js'

const TTL_MS = 1500
const STEADY = {
  heartbeatTtlMs: TTL_MS,
  lbsIdleTimeMs: 3000,
  probeIntervalMs: 200,
  claimStaggerMs: 50,
} as const
/** Sessions of clients that are to be killed. */
const FAST = { ...STEADY, heartbeatTtlMs: 800 } as const

vi.setConfig({ testTimeout: 60_000 })

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

describe.concurrent('a client whose notifications nobody reads', () => {
  test('takes no more than its queue holds, keeps its session, and leaves the rest to others', async () => {
    await using fleet = new Fleet(server, STEADY)
    const absent = await fleet.join('absent', { reads: false, notificationBufferSize: 5 })
    await fleet.addAll(names(40))
    await eventually('the queue is full', () => absent.client.health().queueRoom === 0)
    // Longer than the TTL: the queue holds up neither heartbeats nor the calls of an owner.
    const [stream] = absent.client.owned.values()
    await sleep(2 * TTL_MS)
    await stream?.commit('alive')
    expect(stream?.owned).toBe(true)
    expect(absent.errors).toEqual([])
    expect(absent.owned.length).toBeLessThanOrEqual(5 + 30)
    const other = await fleet.join('other')
    await fleet.allOwned(names(40))
    expect(other.owned.length).toBeGreaterThan(0)
    // In the order of the entries once somebody reads.
    absent.read()
    await eventually('all were told', () => absent.of('StreamAdded').length === absent.owned.length)
    const order = absent.of('StreamAdded').map(({ payload }) => payload.idInLbs)
    expect(order).toEqual([...order].sort(byId))
  })

  test('is told of the loss of what it was told it owned, and not of what it was not', async () => {
    await using fleet = new Fleet(server, STEADY)
    const absent = await fleet.join('absent', {
      reads: false,
      notificationBufferSize: 4,
      onExpired: 'ignore',
    })
    await fleet.addAll(names(3))
    await eventually('all are owned', () => absent.owned.length === 3)
    const iterator = absent.broker[Symbol.asyncIterator]()
    const first = (await iterator.next()).value as Notification
    expect(first).toMatchObject({ type: 'StreamAdded' })
    await iterator.return?.()
    const taker = await fleet.join('taker')
    await fleet.redis.set(fleet.state.heartbeatKey(absent.client.id), 'somebody', 'PX', 1500)
    await eventually('the session is over', () => absent.errors.length > 0)
    await eventually('the taker has all', () => taker.owned.length === 3)
    absent.read()
    await absent.next('StreamDisowned')
    // Nothing of the two that it had not been told of.
    expect(absent.notifications).toHaveLength(1)
    expect(absent.notifications[0]).toMatchObject({
      type: 'StreamDisowned',
      reason: 'session-lost',
      payload: 'payload' in first ? first.payload : {},
    })
  })

  test('loses nothing: when it closes or dies, others get what was queued', async () => {
    await using fleet = new Fleet(server, STEADY)
    const closing = await fleet.join('closing', { reads: false, notificationBufferSize: 5 })
    const dying = await fleet.spawn('dying', { reads: false, client: { ...FAST, notificationBufferSize: 5 } })
    await fleet.addAll(names(40))
    await eventually('both queues are full', async () => {
      const shares = await fleet.state.shares()
      return (shares[closing.client.id] ?? 0) >= 5 && (shares[dying.clientId] ?? 0) >= 5
    })
    const heir = await fleet.join('heir')
    await closing.close()
    await dying.kill()
    await eventually('the heir has all', () => heir.owned.length === 40, Boolean, { timeoutMs: 15_000 })
  })

  test('is told of streams without owners only as far as its queue goes, and of all in the end', async () => {
    await using fleet = new Fleet(server, STEADY)
    const dying = await fleet.spawn('dying', { client: FAST })
    await fleet.addAll(names(60))
    await fleet.allOwned(names(60))
    const absent = await fleet.join('absent', { reads: false, notificationBufferSize: 5 })
    await dying.kill()
    await eventually('the queue is full', () => absent.client.health().queueRoom === 0)
    await sleep(2 * TTL_MS)
    absent.read()
    await eventually('all are claimed', () => absent.owned.length === 60, Boolean, { timeoutMs: 15_000 })
    expect(absent.refusals.length).toBeLessThan(60)
  })
})

describe.concurrent('a slow reader', () => {
  test('gets everything, in order, while its owners keep their session', async () => {
    await using fleet = new Fleet(server, STEADY)
    const slow = await fleet.join('slow', { reads: false, notificationBufferSize: 3 })
    await fleet.addAll(names(60))
    const seen: string[] = []
    for await (const notification of slow.broker) {
      if (notification.type !== 'StreamAdded') continue
      seen.push(notification.payload.idInLbs)
      await sleep(25)
      expect(notification.stream.owned).toBe(true)
      await notification.stream.done()
      if (seen.length === 60) break
    }
    expect(seen).toEqual([...seen].sort(byId))
    expect(slow.errors).toEqual([])
    await fleet.allDone()
  })
})

describe.concurrent('the iterator', () => {
  test('is closed by break, and the client is not', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only', { reads: false })
    await fleet.addAll(names(3))
    const seen: string[] = []
    for await (const notification of member.broker) {
      if (notification.type === 'StreamAdded') seen.push(notification.payload.dataStreamName)
      break
    }
    await eventually('the others are owned too', () => member.owned.length === 3)
    await sleep(1.5 * TTL_MS)
    expect(member.client.health().session).toBe('held')
    for await (const notification of member.broker) {
      if (notification.type === 'StreamAdded') seen.push(notification.payload.dataStreamName)
      if (seen.length === 3) break
    }
    expect(seen.sort()).toEqual(names(3))
    for (const stream of member.client.owned.values()) expect(stream.owned).toBe(true)
  })

  test('cannot be had twice at once', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    expect(() => member.broker[Symbol.asyncIterator]()).toThrow(/iterat/)
    await fleet.add('stream')
    await member.given('stream')
  })

  test('ends with StreamTerminated, and so does one that begins later', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only', { reads: false })
    await member.close()
    const told: string[] = []
    for await (const { type } of member.broker) told.push(type)
    expect(told).toEqual(['StreamTerminated'])
    for await (const { type } of member.broker) told.push(type)
    expect(told).toEqual(['StreamTerminated'])
  })

  test('stands beside events, and a listener that throws harms nobody', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    const heard: string[] = []
    member.broker.on('StreamAdded', () => {
      throw new Error('a listener of the application')
    })
    member.broker.on('StreamAdded', ({ payload }) => heard.push(payload.dataStreamName))
    member.client.on('session', () => {
      throw new Error('another')
    })
    await fleet.addAll(names(2))
    await Promise.all(names(2).map((name) => member.given(name)))
    expect(heard.sort()).toEqual(names(2))
  })

  test('that an application ends by closing the broker closes the client', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only', { reads: false })
    await fleet.add('stream')
    await eventually('it is owned', () => member.owned.length === 1)
    member.broker.close()
    const heir = await fleet.join('heir')
    await heir.given('stream')
    await eventually('it is closed', () => member.client.health().session === 'closed')
  })
})

function byId(a: string, b: string): number {
  const [aMs = '', aSeq = ''] = a.split('-')
  const [bMs = '', bSeq = ''] = b.split('-')
  return Number(aMs) - Number(bMs) || Number(aSeq) - Number(bSeq)
}
