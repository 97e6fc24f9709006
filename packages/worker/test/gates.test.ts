import { RateLimit } from '@redis-stream-client/handling'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { NonRetryableError } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, seen, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

describe('the circuit breaker', () => {
  test('stops all streams while a dependency is down, probes one record at a time, and goes on', async () => {
    let isDown = true
    let calls = 0
    let open = 0
    let mostWhileProbing = 0
    const handled = new Handled()
    const started = world.start('a', {
      retry: { attempts: 4, initialDelayMs: 5, maxDelayMs: 5 },
      circuitBreaker: { failures: 3, halfOpenAfterMs: 60 },
      process: async (record, { stream }) => {
        calls++
        open++
        if (started.events.some(({ event }) => event === 'breaker')) {
          mostWhileProbing = Math.max(mostWhileProbing, isDown ? open : 0)
        }
        await new Promise((resolve) => setTimeout(resolve, 5))
        open--
        if (isDown) throw new Error('down')
        handled.note(stream.dataStreamName, record.id)
      },
    })
    const ids = new Map<string, string[]>()
    for (let n = 0; n < 5; n++) ids.set(`s${n}`, await world.fill(`s${n}`, 3))
    await seen(started, 'breaker', ({ state }) => state === 'half-open')
    const before = calls
    await eventually(
      'two more probes',
      () => started.events.filter(({ state }) => state === 'open').length >= 3,
    )
    expect(calls - before).toBeLessThanOrEqual(4)
    expect(mostWhileProbing).toBeLessThanOrEqual(1)
    expect((await started.worker.status()).breaker).not.toBe('closed')
    isDown = false
    for (const [stream, expected] of ids) expect(await handled.has(stream, 3)).toEqual(expected)
    await seen(started, 'breaker', ({ state }) => state === 'closed')
    expect(await started.worker.deadLetters.count()).toBe(0)
    expect((await started.worker.status()).breaker).toBe('closed')
  })

  test('does not open for records that are wrong themselves, or that isFailure leaves out', async () => {
    const ids = await world.fill('s', 6)
    const started = world.start('a', {
      retry: { attempts: 1 },
      circuitBreaker: { failures: 2, halfOpenAfterMs: 60_000 },
      process: () => {
        throw new NonRetryableError('wrong')
      },
    })
    await world.committedIs('s', ids[5])
    expect(await started.worker.deadLetters.count()).toBe(6)
    expect(started.events.some(({ event }) => event === 'breaker')).toBe(false)
  })
})

describe('the rate limit', () => {
  test('lets a stream go that is to be left, though others still wait before it', async () => {
    const rateLimit = new RateLimit({
      options: { process: { records: 1, perMs: 3_600_000 } },
      connection: {} as never,
      key: '',
      logger: {} as never,
      onWait: () => undefined,
    })
    const first = new AbortController()
    const second = new AbortController()
    await rateLimit.enter(first.signal)
    let isWaiting = true
    const waiting = rateLimit.enter(first.signal).then(() => {
      isWaiting = false
    })
    const leaving = rateLimit.enter(second.signal)
    second.abort()
    await leaving
    expect(isWaiting).toBe(true)
    first.abort()
    await waiting
  })

  test('goes on whatever a metrics recorder does with what it is told', async () => {
    const handled = new Handled()
    const started = world.start('a', {
      rateLimit: { process: { records: 1, perMs: 1000 } },
      metrics: { rateLimited: (event) => void Object.freeze(event) },
      process: ({ id }) => handled.note('s', id),
    })
    const ids = await world.fill('s', 2)
    expect(await handled.has('s', 2)).toEqual(ids)
    await seen(started, 'rateLimited')
  })

  test('of a process lets so many records begin in a time', async () => {
    await world.fill('a', 4)
    await world.fill('b', 4)
    const times: number[] = []
    const started = world.start('a', {
      rateLimit: { process: { records: 5, perMs: 1000 } },
      process: () => void times.push(performance.now()),
    })
    await eventually('all are handled', () => times.length === 8, Boolean, { timeoutMs: 10_000 })
    expect((times[5] as number) - (times[0] as number)).toBeGreaterThan(900)
    expect(await seen(started, 'rateLimited')).toMatchObject({ scope: 'process', waitMs: expect.any(Number) })
  })

  test('of a service counts the records of all its workers', async () => {
    for (let n = 0; n < 8; n++) await world.fill(`s${n}`, 1)
    const times: number[] = []
    const options = {
      maxOwnedStreams: 4,
      rateLimit: { service: { records: 5, perMs: 1000 } },
      process: (): void => void times.push(performance.now()),
    }
    world.start('a', options)
    world.start('b', options)
    await eventually('all are handled', () => times.length === 8, Boolean, { timeoutMs: 10_000 })
    expect((times[5] as number) - (times[0] as number)).toBeGreaterThan(500)
  })
})
