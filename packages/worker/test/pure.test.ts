import { readFileSync } from 'node:fs'
import { retryDelayMs } from '@redis-stream-client/handling'
import { StreamWorker, WORKER_ERROR_CODES } from '@redis-stream-client/worker'
import fc from 'fast-check'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import { guardWorkerRecorder } from '../src/contract/worker-metrics.js'
import { resolveWorkerOptions } from '../src/contract/worker-options.js'
import { checkStreamName } from '../src/producing/producer-record.js'
import { decodeCheckpoint, encodeCheckpoint } from '../src/progress/worker-checkpoint.js'
import type { StreamLook } from '../src/redis/stream-look.js'
import { resolveWorkerKeys, sharesHashTag, type WorkerKeys } from '../src/redis/worker-keys.js'
import { describeLag } from '../src/watching/worker-status.js'

const ignore = (): void => undefined

const position = fc
  .tuple(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 2n))
  .map(([ms, seq]) => `${ms}-${seq}`)

describe('checkpoints', () => {
  test('come back as they were', () => {
    const failure = fc.record({
      id: position,
      attempts: fc.nat(),
      crashes: fc.nat(),
      isTrying: fc.boolean(),
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
          isPaused: fc.boolean(),
          unexplainedCrashes: fc.nat(),
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
})

describe('retries', () => {
  test('with the defaults last for more than two minutes, whatever chance says', () => {
    const { retry } = resolveWorkerOptions({ process: () => undefined })
    const delays = Array.from({ length: retry.attempts - 1 }, (_, n) => retryDelayMs(retry, n + 1, null, 1))
    expect(delays.reduce((sum, delayMs) => sum + delayMs, 0)).toBeGreaterThan(125_000)
  })
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
})

test('no key of a worker may be a data stream of its service', () => {
  const notKeys: readonly (keyof WorkerKeys)[] = [
    'service',
    'group',
    'deadRecordsGroup',
    'failoverChannel',
    'keyspacePattern',
  ]
  const keys = resolveWorkerKeys('orders', { onCluster: false })
  const nameOf = (value: unknown): string => {
    if (typeof value === 'function') return (value as (...parts: unknown[]) => string)('x', 0)
    return String(value)
  }
  for (const [role, value] of Object.entries(keys)) {
    if (notKeys.includes(role as keyof WorkerKeys)) continue
    expect(() => checkStreamName(nameOf(value), 'orders'), role).toThrow('a key of the service orders')
  }
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
    [
      { process, rateLimit: { process: { records: 1, perMs: 2_147_484_000 } } },
      'option rateLimit.process.perMs must be a whole number from 1 to 2147483647, got 2147484000',
    ],
    [
      { process, rateLimit: { service: { records: 1, perMs: 1, burst: 0 } } },
      'option rateLimit.service.burst must be a whole number from 1',
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
  const options = Object.keys(resolveWorkerOptions({ process: () => undefined })).flatMap((name) =>
    name === 'values' ? ['decode', 'schema'] : [name],
  )
  expect(rows('Options').sort()).toEqual([...options, 'client', 'logger', 'metrics'].sort())
  const metrics = Object.keys(guardWorkerRecorder(undefined, () => undefined))
  expect(rows('Looking inside')).toEqual(metrics)
  expect(rows('Errors').sort()).toEqual([...WORKER_ERROR_CODES].sort())
})
