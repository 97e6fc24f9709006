/** A session with a lock that answers as the test says. */
import { afterEach, describe, expect, it } from 'vitest'
import { type Clock, systemClock } from '../src/decisions/clock.js'
import { guardRecorder, type MetricsRecorder } from '../src/metrics.js'
import { DeadlineError } from '../src/redis/redis-errors.js'
import { Session, type SessionContext } from '../src/session/session.js'
import { silentLogger } from './support/silent-logger.js'

type Answer = () => Promise<boolean>
type HeartbeatEvent = Parameters<NonNullable<MetricsRecorder['heartbeat']>>[0]

const name = { clientId: 'redis-consumer-a', token: 't' }
const sessions: Session[] = []
afterEach(() => {
  for (const session of sessions.splice(0)) session.end('the test is over')
})

function tooLate(ms: number): Promise<never> {
  return new Promise((_, reject) => setTimeout(() => reject(new DeadlineError(ms)), ms))
}

function begin(answer: Answer, clock: Clock = systemClock, heartbeatTtlMs = 400) {
  const outcomes: HeartbeatEvent['outcome'][] = []
  const deadlines: string[] = []
  const context: SessionContext = {
    extend: ({ timeoutMs, timeoutOrigin }) => {
      deadlines.push(timeoutOrigin)
      return Promise.race([answer(), tooLate(timeoutMs)])
    },
    heartbeatTtlMs,
    clock,
    recorder: guardRecorder({ heartbeat: ({ outcome }) => outcomes.push(outcome) }, () => undefined),
    logger: silentLogger,
    problem: () => 'WRONGPASS wrong password',
  }
  const session = new Session(name, clock.now(), context)
  sessions.push(session)
  return { session, outcomes, deadlines, kept: session.keep() }
}

describe('a session', () => {
  it('is held as long as its heartbeats are answered', async () => {
    const { session, outcomes } = begin(() => Promise.resolve(true))
    await expect.poll(() => outcomes.length, { timeout: 5000 }).toBeGreaterThan(5)
    expect(session.isHeld()).toBe(true)
    expect(session.consumer).toBe('redis-consumer-a:t')
  })

  it('survives failed heartbeats as long as one gets through in time', async () => {
    let calls = 0
    const { session, outcomes } = begin(() =>
      calls++ % 3 === 2 ? Promise.resolve(true) : Promise.reject(new Error('connection lost')),
    )
    await expect
      .poll(() => outcomes.filter((each) => each === 'extended').length, { timeout: 5000 })
      .toBeGreaterThan(4)
    expect(outcomes).toContain('failed')
    expect(session.isHeld()).toBe(true)
  })

  it('is lost at once when its key holds something else', async () => {
    const { session, kept, outcomes } = begin(() => Promise.resolve(false))
    await kept
    expect(session.isHeld()).toBe(false)
    expect(outcomes).toEqual(['lost'])
    expect(session.signal.reason).toMatchObject({ code: 'SESSION_LOST' })
  })

  it('is over before its TTL is when nobody answers, and says what it was waiting for', async () => {
    const startMs = performance.now()
    const { session, kept, deadlines } = begin(() => new Promise<boolean>(() => undefined))
    await new Promise((resolve) => session.signal.addEventListener('abort', resolve))
    expect(session.isHeld()).toBe(false)
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(375)
    expect(deadlines[0]).toContain('heartbeatTtlMs, which is 400')
    expect(session.signal.reason).toMatchObject({
      message: expect.stringContaining('WRONGPASS wrong password'),
    })
    await kept
  })

  it('does not trust a heartbeat that is answered after trust has ended', async () => {
    const clock = { aheadMs: 0, now: () => ({ ...systemClock.now(), wallMs: Date.now() + clock.aheadMs }) }
    const { session, kept, outcomes } = begin(() => {
      clock.aheadMs = 60_000 // the machine was asleep while the answer was under way
      return Promise.resolve(true)
    }, clock)
    await kept
    expect(session.isHeld()).toBe(false)
    expect(outcomes).toEqual(['late'])
  })

  it('is over by the clock before any timer has run', () => {
    const clock = { aheadMs: 0, now: () => ({ ...systemClock.now(), wallMs: Date.now() + clock.aheadMs }) }
    const { session } = begin(() => Promise.resolve(true), clock)
    expect(session.isHeld()).toBe(true)
    clock.aheadMs = 381
    expect(session.isHeld()).toBe(false)
    expect(session.signal.aborted).toBe(false)
  })

  it('is over from the beginning when taking the key took too long', async () => {
    const now = systemClock.now()
    const late = { monotonicMs: now.monotonicMs - 1000, wallMs: now.wallMs - 1000 }
    const { session } = begin(() => Promise.resolve(true))
    expect(session.isHeld()).toBe(true)
    const over = new Session(name, late, {
      extend: () => Promise.resolve(true),
      heartbeatTtlMs: 400,
      clock: systemClock,
      recorder: guardRecorder(undefined, () => undefined),
      logger: silentLogger,
      problem: () => null,
    })
    expect(over.signal.aborted).toBe(true)
    await over.keep()
  })

  it('ends once: the first reason counts', () => {
    const { session } = begin(() => Promise.resolve(true))
    session.end('one')
    session.end('two')
    expect(String(session.signal.reason)).toContain('one')
  })
})
