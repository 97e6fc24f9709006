/** What the application has been told of. */
import { NotificationBroker, type StreamExpired } from '@redis-stream-client/notifs'
import { describe, expect, it } from 'vitest'
import { ToldEntries } from '../src/ownership/told-entries.js'

const TTL_MS = 1000

function setUp() {
  let nowMs = 5000
  const broker = new NotificationBroker()
  const context = {
    broker,
    clock: { now: () => ({ monotonicMs: nowMs, wallMs: nowMs }) },
    heartbeatTtlMs: TTL_MS,
    lbsIdleTimeMs: 4 * TTL_MS,
  }
  const told = new ToldEntries(context)
  const tell = (id: string): void => {
    const notification: StreamExpired = {
      type: 'StreamExpired',
      payload: { dataStreamName: `s${id}`, idInLbs: id },
      additionalInfo: {},
      previousOwner: null,
    }
    told.add(notification)
    void broker.send(notification)
  }
  const pass = (ms: number): void => {
    nowMs += ms
  }
  const notifications = broker[Symbol.asyncIterator]()
  return { context, told, tell, read: () => notifications.next(), pass }
}

describe('an application', () => {
  it('is not told again of an entry while it has not read of it, or claims it', async () => {
    const { pass, read, tell, told } = setUp()
    tell('1-0')
    pass(100 * TTL_MS)
    expect(told.isDue('1-0')).toBe(false)
    await read()
    expect(told.isDue('1-0')).toBe(true)
    let settle = (): void => undefined
    const claim = told.whileClaiming('1-0', () => new Promise<void>((resolve) => (settle = resolve)))
    pass(100 * TTL_MS)
    expect(told.isDue('1-0')).toBe(false)
    settle()
    await claim
    expect(told.isDue('1-0')).toBe(true)
  })

  it('is told again after one TTL, two, four, up to the idle time', async () => {
    const { pass, read, tell, told } = setUp()
    for (const ttls of [1, 2, 4, 4]) {
      tell('1-0')
      await read()
      pass(ttls * TTL_MS - 1)
      expect(told.isDue('1-0')).toBe(false)
      pass(1)
      expect(told.isDue('1-0')).toBe(true)
    }
  })

  it('that may be about to claim keeps a place for each entry, for one TTL or while it has not read', async () => {
    const { pass, read, tell, told } = setUp()
    for (const id of ['1-0', '2-0', '3-0']) tell(id)
    expect(told.count).toBe(3)
    await read()
    pass(TTL_MS)
    expect(told.count).toBe(2)
    await told.whileClaiming('2-0', () => Promise.resolve())
    expect(told.count).toBe(1)
    await told.whileReserved(5, () => Promise.resolve(expect(told.count).toBe(6)))
    expect(told.count).toBe(1)
  })

  it('is told anew in the next session of what it has read, and of nothing that is unread', async () => {
    const { context, pass, read, tell, told } = setUp()
    tell('1-0')
    tell('2-0')
    await read()
    const next = new ToldEntries(context, told.unread)
    expect(next.isDue('1-0')).toBe(true)
    pass(100 * TTL_MS)
    expect(next.isDue('2-0')).toBe(false)
    expect(next.count).toBe(1)
    await read()
    expect(next.isDue('2-0')).toBe(true)
  })
})
