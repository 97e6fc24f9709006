import { readFileSync } from 'node:fs'
import { messageOf } from '@redis-stream-client/client/internal'
import {
  NonRetryableError,
  RetryAfterError,
  retryAfter,
  StreamWorker,
  WORKER_ERROR_CODES,
} from '@redis-stream-client/worker'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { AttemptOutcome } from '../src/attempt.js'
import { Breaker } from '../src/breaker.js'
import { checkStreamName } from '../src/producer-record.js'
import { isExhausted, retryDelayMs } from '../src/retry-policy.js'
import type { StreamLook } from '../src/stream-look.js'
import { afterPosition, comparePositions, positionTimeMs } from '../src/stream-position.js'
import { StreamRecord } from '../src/stream-record.js'
import { decodeCheckpoint, describeError, encodeCheckpoint } from '../src/worker-checkpoint.js'
import { resolveWorkerKeys, sharesHashTag, type WorkerKeys } from '../src/worker-keys.js'
import { guardWorkerRecorder } from '../src/worker-metrics.js'
import { resolveWorkerOptions } from '../src/worker-options.js'
import { describeLag } from '../src/worker-status.js'
import { hostileValues } from './support/hostile-values.js'

const ignore = (): void => undefined

const position = fc
  .tuple(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 2n))
  .map(([ms, seq]) => `${ms}-${seq}`)

describe('positions', () => {
  test('are ordered as Redis orders ids', () => {
    const key = (id: string): bigint => {
      const [ms, seq] = id.split('-').map(BigInt) as [bigint, bigint]
      return ms * 2n ** 64n + seq
    }
    fc.assert(
      fc.property(position, position, (a, b) => {
        const expected = key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0
        expect(Math.sign(comparePositions(a, b))).toBe(expected)
        expect(key(afterPosition(a))).toBe(key(a) + 1n)
      }),
    )
    expect(positionTimeMs('1732228800000-5')).toBe(1732228800000)
  })
})

describe('checkpoints', () => {
  test('come back as they were', () => {
    const failure = fc.record({
      id: position,
      attempts: fc.nat(),
      firstAtMs: fc.nat(),
      lastAtMs: fc.nat(),
      dueAtMs: fc.nat(),
      error: fc.string(),
      isLast: fc.boolean(),
    })
    fc.assert(
      fc.property(
        fc.record({
          position,
          accounted: fc.option(fc.integer()),
          failure: fc.option(failure),
          isHalted: fc.boolean(),
          finished: fc.option(fc.record({ idInLbs: position, isCertain: fc.boolean() })),
        }),
        (checkpoint) => {
          expect(decodeCheckpoint(encodeCheckpoint(checkpoint))).toEqual(checkpoint)
        },
      ),
    )
  })

  test.each([
    '',
    'page 7',
    '7',
    '[]',
    'null',
    '{}',
    '{"id":"x"}',
    '{"id":"1-0","failed":{}}',
    '{"id":"1-0","failed":null}',
    'x'.repeat(200),
  ])('of somebody else are refused: %s', (text) =>
    expect(() => decodeCheckpoint(text)).toThrow('was not written by a worker'),
  )

  test('keep the text of an error short and storable', () => {
    expect(describeError(new TypeError('x'.repeat(5000)))).toHaveLength(1000)
    expect(describeError('\ud800')).toBe('\ufffd')
  })

  test('keep at most 1000 bytes of an error, and only whole characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }), fc.nat(3), (text, filler) => {
        const whole = 'x'.repeat(filler) + text.repeat(1000)
        const kept = describeError(whole)
        expect(Buffer.byteLength(kept)).toBeLessThanOrEqual(1000)
        expect(Buffer.byteLength(kept)).toBeGreaterThan(1000 - 4)
        expect(whole.startsWith(kept)).toBe(true)
      }),
    )
    expect(describeError('€'.repeat(1000))).toBe('€'.repeat(333))
  })

  test.each(hostileValues)('keep some text of %s', (_, thrown) => {
    expect(describeError(thrown)).toEqual(expect.any(String))
    expect(messageOf(thrown)).toEqual(expect.any(String))
  })
})

describe('retries', () => {
  const policy = { attempts: 4, initialDelayMs: 100, maxDelayMs: 1000, factor: 3, jitter: 0.5 }

  test('wait longer each time, up to the cap, with their share of chance', () => {
    expect([1, 2, 3, 9].map((n) => retryDelayMs(policy, n, null, 0))).toEqual([100, 300, 900, 1000])
    expect([1, 2, 3, 9].map((n) => retryDelayMs(policy, n, null, 1))).toEqual([50, 150, 450, 500])
    expect(retryDelayMs(policy, 1, retryAfter(7))).toBe(7)
    expect(retryDelayMs({ ...policy, factor: 2 }, 5000, null, 0)).toBe(1000)
  })

  test('with the defaults last for more than two minutes, whatever chance says', () => {
    const { retry } = resolveWorkerOptions({ process: () => undefined })
    const delays = Array.from({ length: retry.attempts - 1 }, (_, n) => retryDelayMs(retry, n + 1, null, 1))
    expect(delays.reduce((sum, delayMs) => sum + delayMs, 0)).toBeGreaterThan(125_000)
  })

  test('do not believe a delay that no timer can keep', () => {
    for (const delayMs of [Number.NaN, Infinity, -1, '5']) {
      expect(retryDelayMs(policy, 1, new RetryAfterError(delayMs as number, 'later'), 0)).toBe(100)
    }
  })

  test('end after the last attempt, or when they are useless', () => {
    expect([3, 4, 5].map((n) => isExhausted(policy, n, new Error()))).toEqual([false, true, true])
    expect(isExhausted(policy, 1, new NonRetryableError('no'))).toBe(true)
    expect(() => retryAfter(-1)).toThrow(RangeError)
    expect(() => retryAfter(Number.NaN)).toThrow(RangeError)
  })
})

describe('records', () => {
  const record = (...raw: string[]): StreamRecord => new StreamRecord('s', ['5-0', raw])

  test('give JSON from the field that is named, else data, else the only one', () => {
    expect(record('a', '1', 'data', '2').json()).toBe(2)
    expect(record('a', '1', 'data', '2').json('a')).toBe(1)
    expect(record('only', '{"x":1}').json<{ x: number }>().x).toBe(1)
  })

  test('say what is wrong with it', () => {
    expect(() => record('a', '1', 'b', '2').json()).toThrow(
      'record 5-0 of s: field "data" is missing, there is a, b',
    )
    expect(() => record().json('x')).toThrow('there is no field at all')
    expect(() => record('data', 'nope').json()).toThrow(/field "data" is no JSON \(.*\): nope/)
    expect(() => record('data', 'x'.repeat(100)).json()).toThrow(NonRetryableError)
  })
})

test('a circuit breaker does not take a probe that was interrupted for a success', async () => {
  onTestFinished(() => void vi.useRealTimers())
  vi.useFakeTimers()
  const breaker = new Breaker({ failures: 1, halfOpenAfterMs: 100 }, ignore, ignore)
  const end = (outcome: AttemptOutcome) => (): Promise<AttemptOutcome> => Promise.resolve(outcome)
  const error = new Error('down')
  await breaker.run(end({ type: 'failed', error, isTimeout: false, isAbandoned: false }))
  await vi.advanceTimersByTimeAsync(150)
  expect(breaker.state).toBe('half-open')
  const interrupted = { type: 'interrupted', isAbandoned: false } as const
  expect(await breaker.run(end(interrupted))).toEqual(interrupted)
  expect(breaker.state).toBe('open')
  await vi.advanceTimersByTimeAsync(150)
  expect(await breaker.run(end({ type: 'ok' }))).toEqual({ type: 'ok' })
  expect(breaker.state).toBe('closed')
  breaker.stop()
})

test('a circuit breaker whose clock is set back rests again instead of trying on and on', async () => {
  onTestFinished(() => void vi.useRealTimers())
  vi.useFakeTimers()
  const states: string[] = []
  const breaker = new Breaker({ failures: 1, halfOpenAfterMs: 100 }, (state) => states.push(state), ignore)
  const fail = (): Promise<AttemptOutcome> =>
    Promise.resolve({ type: 'failed', error: new Error('down'), isTimeout: false, isAbandoned: false })
  await breaker.run(fail)
  expect(breaker.mayStart).toBe(false)
  vi.setSystemTime(Date.now() - 3_600_000)
  await vi.advanceTimersByTimeAsync(150)
  expect(await breaker.run(fail)).toBeNull()
  expect(breaker.mayStart).toBe(false)
  breaker.stop()
  expect(states).toEqual(['open', 'half-open', 'open'])
})

describe('the greatest durations that the options allow', () => {
  const GREATEST_MS = 2 ** 31 - 1

  test('may be added up: a worker can be made with them', () => {
    const make = () =>
      new StreamWorker(new Redis({ lazyConnect: true }), 'orders', {
        client: { consumerId: 'a' },
        logger: pino({ level: 'silent' }),
        process: ignore,
        drainMs: GREATEST_MS,
        abandonAfterMs: GREATEST_MS,
      })
    expect(make).not.toThrow()
  })

  test('let no timer fire at once: a circuit breaker rests', async () => {
    const warnings: string[] = []
    const note = ({ name }: Error): void => void warnings.push(name)
    process.on('warning', note)
    onTestFinished(() => void process.off('warning', note))
    const breaker = new Breaker({ failures: 1, halfOpenAfterMs: GREATEST_MS }, ignore, ignore)
    const error = new Error('down')
    await breaker.run(() => Promise.resolve({ type: 'failed', error, isTimeout: false, isAbandoned: false }))
    await new Promise((resolve) => setImmediate(resolve))
    expect(warnings).toEqual([])
    expect(breaker.state).toBe('open')
    breaker.stop()
  })
})

test('no key of a worker may be a data stream of its service', () => {
  const notKeys: readonly (keyof WorkerKeys)[] = ['service', 'group', 'failoverChannel', 'keyspacePattern']
  const keys = resolveWorkerKeys('orders', { onCluster: false })
  const nameOf = (role: string, value: unknown): string => {
    if (typeof value === 'function') return (value as (...parts: unknown[]) => string)('x', 0)
    return role === 'ratePrefix' ? `${String(value)}:records` : String(value)
  }
  for (const [role, value] of Object.entries(keys)) {
    if (notKeys.includes(role as keyof WorkerKeys)) continue
    expect(() => checkStreamName(nameOf(role, value), 'orders'), role).toThrow('a key of the service orders')
  }
})

test.each([
  ['throws', (error: unknown): boolean => (error as Error).message === 'down'],
  ['answers a promise', () => Promise.reject(new Error('nobody waits for this'))],
])('a circuit breaker whose isFailure %s decides by itself, and says so', async (_, isFailure) => {
  const problems: unknown[] = []
  const breaker = new Breaker(
    { failures: 1, halfOpenAfterMs: 60_000, isFailure: isFailure as () => boolean },
    ignore,
    (problem) => problems.push(problem),
  )
  const fail = (error: unknown) => (): Promise<AttemptOutcome> =>
    Promise.resolve({ type: 'failed', error, isTimeout: false, isAbandoned: false })
  await breaker.run(fail(new NonRetryableError('not what the breaker is for')))
  expect(breaker.state).toBe('closed')
  await breaker.run(fail(undefined))
  expect(breaker.state).toBe('open')
  expect(problems.at(-1)).toBeInstanceOf(Error)
  breaker.stop()
})

test('hash tags are shared or not', () => {
  expect(sharesHashTag('{a}', 'x{a}:1')).toBe(true)
  expect(sharesHashTag('{a}', '{b}')).toBe(false)
  expect(sharesHashTag('a', 'a')).toBe(false)
  expect(sharesHashTag('{}a', '{}a')).toBe(false)
})

describe('lag', () => {
  const look = (lastId: string | null, counted: number, more: Partial<StreamLook> = {}): StreamLook => ({
    length: 10,
    firstId: lastId === null ? null : '1-0',
    lastId,
    greatestId: lastId ?? '9-0',
    added: 10,
    counted,
    isComplete: true,
    ...more,
  })
  const read = (position: string, readPosition = position, buffered = 0) => ({
    position,
    readPosition,
    buffered,
  })

  test('is counted from the position, or from now before the first', () => {
    const exact = { isEstimate: false }
    expect(describeLag(read('5-0'), look('5-0', 0), 100)).toEqual({ ...exact, records: 0, lagMs: 0 })
    expect(describeLag(read('5-0'), look('9-0', 2), 100)).toEqual({ ...exact, records: 2, lagMs: 4 })
    expect(describeLag(read('0-0'), look('9-0', 2), 100)).toEqual({ ...exact, records: 2, lagMs: 91 })
    expect(describeLag(read('5-0', '8-0', 3), look('9-0', 1), 100)).toMatchObject({ records: 4, lagMs: 4 })
    expect(describeLag(read('5-0'), look(null, 0), 100)).toEqual({ ...exact, records: 0, lagMs: 0 })
    expect(describeLag(read('5-0'), null, 100)).toEqual({ ...exact, records: 0, lagMs: 0 })
  })

  test('is estimated from the times of the ids where not all records were counted', () => {
    const partly = { length: 1000, isComplete: false }
    const lag = (firstId: string, position: string, lastId: string): number =>
      describeLag(read(position), look(lastId, 7, { ...partly, firstId }), 0).records
    expect(lag('0-0', '600-0', '1000-0')).toBe(400)
    expect(lag('0-0', '999-0', '1000-0')).toBe(7)
    expect(lag('5-0', '5-3', '5-900')).toBe(1000)
    expect(describeLag(read('6-0'), look('9-0', 7, partly), 0).isEstimate).toBe(true)
  })
})

describe('options', () => {
  const process = (): void => undefined

  test.each([
    [{}, 'exactly one of process and processBatch'],
    [{ process, processBatch: process }, 'exactly one of process and processBatch'],
    [{ process: 1 }, 'option process must be a function, got 1'],
    [{ process, concurrency: 0 }, 'option concurrency must be a whole number from 1 to 100000, got 0'],
    [{ process, concurency: 1 }, 'there is no option concurency'],
    [{ process, retry: { attempt: 1 } }, 'there is no option retry.attempt'],
    [{ process, retry: { jitter: 2 } }, 'option retry.jitter must be a number from 0 to 1, got 2'],
    [{ process, retry: { initialDelayMs: 10, maxDelayMs: 5 } }, 'option retry.maxDelayMs must be at least'],
    [{ process, onExhausted: 'stop' }, "option onExhausted must be one of 'skip', 'halt', got \"stop\""],
    [{ process, rateLimit: { process: { records: 1, perMs: 500 } } }, 'must be a multiple of 1000'],
    [
      { process, rateLimit: { process: { records: 1, perMs: 2_147_484_000 } } },
      'must be a multiple of 1000, at most 2147483647, got 2147484000',
    ],
    [{ process, maxOwnedStreams: 0 }, 'or Infinity, got 0'],
    [{ process, client: 1 }, 'option client must be an object, got 1'],
    [null, 'option options must be an object'],
  ])('%o are refused', (options, problem) => {
    expect(() => resolveWorkerOptions(options as never)).toThrow(problem)
  })

  test('have their defaults', () => {
    expect(resolveWorkerOptions({ process })).toMatchObject({
      concurrency: 100,
      commitEvery: 100,
      commitIntervalMs: 1000,
      retry: { attempts: 16, initialDelayMs: 200, maxDelayMs: 30_000, factor: 2, jitter: 0.5 },
      warnAfterMs: 30_000,
      onExhausted: 'skip',
      drainMs: 10_000,
      circuitBreaker: null,
      rateLimit: null,
    })
  })

  test('a worker that was never started closes, and does not start afterwards', async () => {
    const redis = new Redis({ lazyConnect: true })
    const worker = new StreamWorker(redis, 'orders', { process, client: { consumerId: 'a' } })
    expect(worker.id).toBe('redis-consumer-a')
    await worker.close()
    await worker.close()
    await expect(worker.run()).rejects.toMatchObject({ code: 'CLOSED' })
    const other = new StreamWorker(redis, 'orders', { process, client: { consumerId: 'a' } })
    await expect(other.run({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('a worker that cannot reach Redis says so', async () => {
    const redis = new Redis({ lazyConnect: true, port: 1, retryStrategy: () => null })
    redis.on('error', () => undefined)
    await using worker = new StreamWorker(redis, 'orders', { process, client: { consumerId: 'a' } })
    await expect(worker.run()).rejects.toMatchObject({ code: 'REDIS_ERROR' })
  })
})

test('the guide names every option, metric and error code, and no other', () => {
  const guide = readFileSync(new URL('../../../docs/guides/worker.md', import.meta.url), 'utf8')
  const rows = (heading: string): string[] => {
    const [, section = ''] = guide.split(`## ${heading}\n`)
    const lines = (section.split('\n## ')[0] as string).split('\n').filter((line) => line.startsWith('| '))
    return lines.slice(1).flatMap((line) => (line.split('|')[1] as string).match(/[A-Za-z_]+/g) ?? [])
  }
  const options = Object.keys(resolveWorkerOptions({ process: () => undefined }))
  expect(rows('Options').sort()).toEqual([...options, 'client', 'logger', 'metrics'].sort())
  const metrics = Object.keys(guardWorkerRecorder(undefined, () => undefined))
  expect(rows('Looking inside')).toEqual(metrics)
  expect(rows('Errors').sort()).toEqual([...WORKER_ERROR_CODES].sort())
})
