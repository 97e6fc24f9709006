/** The pure decisions: trust, repeats, backoff, names. */
import { describe, expect, it } from 'vitest'
import { backoffMs } from '../src/decisions/backoff.js'
import { type Clock, elapsedMs } from '../src/decisions/clock.js'
import { clientIdOf, formatConsumer } from '../src/decisions/consumer-name.js'
import { decodeFailoverMessage, encodeFailoverMessage } from '../src/decisions/failover-message.js'
import { KeyedBackoff } from '../src/decisions/keyed-backoff.js'
import { Trust } from '../src/decisions/trust.js'
import { reservedNameProblem, resolveServiceKeys, type ServiceKeys } from '../src/service-keys.js'

class FakeClock implements Clock {
  monotonicMs = 1000
  wallMs = 1_700_000_000_000
  now = () => ({ monotonicMs: this.monotonicMs, wallMs: this.wallMs })
  pass(ms: number): void {
    this.monotonicMs += ms
    this.wallMs += ms
  }
}

describe('trust', () => {
  it('ends one margin before the TTL, counted from when the heartbeat was sent', () => {
    const clock = new FakeClock()
    const trust = new Trust(2000, clock, clock.now())
    expect(trust.leftMs()).toBe(1900)
    clock.pass(1000)
    const sentAt = clock.now()
    clock.pass(500)
    expect(trust.renew(sentAt)).toBe(true)
    expect(trust.leftMs()).toBe(1400)
    clock.pass(1400)
    expect(trust.leftMs()).toBe(0)
  })

  it('has a margin of at least 20 ms', () => {
    const clock = new FakeClock()
    expect(new Trust(200, clock, clock.now()).leftMs()).toBe(180)
  })

  it('is not renewed by a heartbeat that answers after it ended', () => {
    const clock = new FakeClock()
    const trust = new Trust(2000, clock, clock.now())
    const sentAt = clock.now()
    clock.pass(1900)
    expect(trust.renew(sentAt)).toBe(false)
    expect(trust.leftMs()).toBe(0)
  })

  it('goes by the clock that says more', () => {
    const clock = new FakeClock()
    const trust = new Trust(2000, clock, clock.now())
    clock.wallMs -= 10_000
    clock.monotonicMs += 1000
    expect(trust.leftMs()).toBe(900)
    clock.wallMs += 15_000
    expect(trust.leftMs()).toBe(0)
    expect(elapsedMs({ monotonicMs: 0, wallMs: 0 }, { monotonicMs: 3, wallMs: 1 })).toBe(3)
  })

  it('is over for ever, even when a clock is set back', () => {
    const clock = new FakeClock()
    const trust = new Trust(2000, clock, clock.now())
    clock.wallMs += 60_000
    expect(trust.leftMs()).toBe(0)
    clock.wallMs -= 60_000
    expect(trust.leftMs()).toBe(0)
    expect(trust.renew(clock.now())).toBe(false)
  })

  it('ends earlier the more signals must be aborted, but never by more than a quarter of the TTL', () => {
    const clock = new FakeClock()
    const trust = new Trust(2000, clock, clock.now())
    trust.signals = 10_000
    expect(trust.leftMs()).toBe(1850)
    trust.signals = 100_000_000
    expect(trust.leftMs()).toBe(1400)
  })
})

describe('repeats', () => {
  it('come after one interval, two, four, up to the cap', () => {
    const repeats = new KeyedBackoff(100, 350)
    const dueAt: number[] = []
    for (let now = 0; now < 1200; now += 10) {
      if (!repeats.isDue('key', now)) continue
      dueAt.push(now)
      repeats.note('key', now)
    }
    expect(dueAt).toEqual([0, 100, 300, 650, 1000])
  })

  it('start anew for what was forgotten, and old ones are forgotten by themselves', () => {
    const repeats = new KeyedBackoff(100, 200)
    repeats.note('a', 0)
    repeats.forget('a')
    expect(repeats.isDue('a', 1)).toBe(true)
    repeats.note('b', 0)
    repeats.note('c', 400)
    repeats.forgetOld(600)
    expect(repeats.size).toBe(1)
    repeats.forgetOld(899)
    expect(repeats.size).toBe(1)
    repeats.forgetOld(900)
    expect(repeats.size).toBe(0)
  })
})

describe('backoff', () => {
  it('doubles up to the cap, with half of it left to chance', () => {
    expect([0, 1, 2, 3, 60].map((attempt) => backoffMs(attempt, 100, 450, 1))).toEqual([
      100, 200, 400, 450, 450,
    ])
    expect(backoffMs(2, 100, 1000, 0)).toBe(200)
    const any = backoffMs(0, 100, 1000)
    expect(any).toBeGreaterThanOrEqual(50)
    expect(any).toBeLessThanOrEqual(100)
  })
})

describe('names', () => {
  it('of consumers hold the client id and the token', () => {
    expect(formatConsumer({ clientId: 'redis-consumer-fe80::1', token: 'ab' })).toBe(
      'redis-consumer-fe80::1:ab',
    )
    expect(clientIdOf('redis-consumer-fe80::1:ab')).toBe('redis-consumer-fe80::1')
    expect(clientIdOf('stranger')).toBe('stranger')
  })

  it('of keys all begin with the service', () => {
    const keys = resolveServiceKeys('a.B_9-{tag}', { onCluster: true })
    for (const key of [
      keys.lbs,
      keys.group,
      keys.locks,
      keys.heartbeat('x'),
      keys.backlog('y'),
      keys.late('y'),
      keys.probe,
    ]) {
      expect(key.startsWith('a.B_9-{tag}-')).toBe(true)
    }
    expect(keys.keyspacePattern(3)).toBe('__keyspace@3__:a.B_9-{tag}-heartbeat:*')
  })

  it.each(['', 'a b', 'a*', 'a{b}{c}', '{', '{}', 'a/b', 'ü', 'x'.repeat(201), 7 as unknown as string])(
    'of services are refused: %j',
    (service) => {
      expect(() => resolveServiceKeys(service, { onCluster: false })).toThrow(
        expect.objectContaining({ code: 'SERVICE_NAME_INVALID' }),
      )
    },
  )

  it('of services need a hash tag on Cluster, and the error says which', () => {
    expect(() => resolveServiceKeys('orders', { onCluster: true })).toThrow(/call it \{orders\}/)
  })
})

describe('the name of a data stream', () => {
  const NO_KEYS: readonly (keyof ServiceKeys)[] = ['service', 'group', 'failoverChannel', 'keyspacePattern']

  it('may not be that of any key of its service', () => {
    for (const service of ['orders', '{orders}', 'a-input', 'heartbeat']) {
      const keys = resolveServiceKeys(service, { onCluster: false })
      const names = Object.entries(keys)
        .filter(([role]) => !NO_KEYS.includes(role as keyof ServiceKeys))
        .map(([, value]) =>
          typeof value === 'function' ? (value as (name: string) => string)('x') : String(value),
        )
      expect(names.length).toBeGreaterThan(8)
      for (const name of names) {
        expect(reservedNameProblem(service, name), name).toContain(
          `${name} is a key of the service ${service}`,
        )
      }
    }
  })

  it.each([
    'orders',
    'orders-42',
    'orders-input-2',
    'orders-input:eu',
    'orders-backlog',
    'orders-heartbeats:x',
    'orders-locks-of-doors',
    'Orders-input',
    'orders:input',
    'my-orders-input',
    'orders-eu-input',
    'input',
    '-input',
    '',
  ])('may be like one: %s', (name) => {
    expect(reservedNameProblem('orders', name)).toBeNull()
  })

  it('is shortened in the reason if it is long', () => {
    expect(reservedNameProblem('orders', `orders-backlog:${'x'.repeat(1000)}`)?.length).toBeLessThan(250)
  })
})

describe('failover messages', () => {
  it('are read back, and anything else is ignored', () => {
    for (const level of [0, 2.5, null]) {
      const message = { type: 'waiting', consumer: 'a:b', level, living: 3 } as const
      expect(decodeFailoverMessage(encodeFailoverMessage(message))).toEqual(message)
    }
    const others = [
      '',
      '{',
      'null',
      '{"type":"waiting"}',
      '{"type":"waiting","consumer":"a","level":-1,"living":1}',
    ]
    for (const text of others) expect(decodeFailoverMessage(text)).toBeNull()
  })
})
