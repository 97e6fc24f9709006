/** Values of records: decoded, checked by the schemas of three libraries, typed by inference. */
import {
  NonRetryableError,
  RecordProducer,
  type RecordValueError,
  retryAfter,
  type StandardSchema,
  StreamWorker,
  type WorkerOptions,
} from '@redis-stream-client/worker'
import { type } from 'arktype'
import * as v from 'valibot'
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import { seen, World } from './support/world.js'

interface Order {
  item: string
  lines: { price: number }[]
}

const SCHEMAS: readonly (readonly [library: string, schema: StandardSchema<Order>])[] = [
  ['zod', z.object({ item: z.string(), lines: z.array(z.object({ price: z.number() })) })],
  ['valibot', v.object({ item: v.string(), lines: v.array(v.object({ price: v.number() })) })],
  ['arktype', type({ item: 'string', lines: type({ price: 'number' }).array() })],
]
const GOOD: Order = { item: 'pen', lines: [{ price: 1 }] }
const BAD = { item: 'pen', lines: [{ price: 1 }, { price: 'a lot' }] }

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

/** Adds records with this JSON, in this order. */
async function add(values: readonly unknown[]): Promise<string[]> {
  const ids: string[] = []
  for (const value of values)
    ids.push((await world.redis.xadd('s', '*', 'data', JSON.stringify(value))) as string)
  await world.assign('s')
  return ids
}

describe.each(SCHEMAS)('a schema of %s', (_, schema) => {
  test('gives the handler values that fit, and sends others to the dead letters at once, with their paths', async () => {
    const values: unknown[] = []
    const ids = await add([GOOD, BAD, GOOD])
    const started = world.start('a', {
      schema,
      process: (record) => void values.push(record.value),
    } as WorkerOptions)
    await world.committedIs('s', ids[2])
    expect(values).toEqual([GOOD, GOOD])
    const [letter, ...others] = await started.worker.deadLetters.list()
    expect(others).toEqual([])
    expect(letter).toMatchObject({ recordId: ids[1], attempts: 1 })
    expect(letter?.error).toMatch(/^RecordValueError: .* does not fit its schema: lines\[1\]\.price: /)
    const { error } = await seen(started, 'deadLetter')
    expect((error as RecordValueError).issues.map(({ path }) => path)).toEqual(['lines[1].price'])
  })

  test('keeps a producer from sending what does not fit', async () => {
    const producer = new RecordProducer(world.redis, world.service, { schema })
    await producer.addJson('s', GOOD)
    await expect(producer.addJson('s', BAD as never)).rejects.toMatchObject({
      code: 'RECORD_INVALID',
      message: expect.stringContaining('lines[1].price'),
    })
    await expect(producer.add('s', { data: JSON.stringify(BAD) })).rejects.toMatchObject({
      code: 'RECORD_INVALID',
    })
    const records = [GOOD, BAD].map((value) => ({ fields: { data: JSON.stringify(value) } }))
    await expect(producer.addMany('s', records)).rejects.toMatchObject({
      code: 'RECORD_INVALID',
      facts: { index: 1 },
    })
    expect(await world.redis.xlen('s')).toBe(1)
  })
})

describe('values', () => {
  test('are what a schema makes of them, and are made once', async () => {
    let calls = 0
    const schema = z.object({
      at: z.string().transform((text) => {
        calls++
        return new Date(text)
      }),
    })
    const values: unknown[] = []
    const ids = await add([{ at: '2026-01-02T03:04:05Z' }])
    world.start('a', {
      retry: { attempts: 3, initialDelayMs: 1, maxDelayMs: 1 },
      schema,
      process: (record, { attempt }) => {
        values.push((record.value as { at: Date }).at.getTime(), (record.value as { at: Date }).at.getTime())
        if (attempt === 1) throw new Error('once more')
      },
    } as WorkerOptions)
    await world.committedIs('s', ids[0])
    expect([new Set(values).size, values.length, calls]).toEqual([1, 4, 1])
  })

  test('in a batch: the records before one that does not fit come first, and those behind it after it', async () => {
    const batches: number[][] = []
    const ids = await add([1, 2, 3, 'four', 5])
    const started = world.start('a', {
      schema: z.number(),
      processBatch: (records) => void batches.push(records.map((record) => record.value as number)),
    } as WorkerOptions)
    await world.committedIs('s', ids[4])
    expect(batches.flat()).toEqual([1, 2, 3, 5])
    expect((await started.worker.deadLetters.list()).map(({ recordId }) => recordId)).toEqual([ids[3]])
  })

  test('are waited for if the schema takes its time, and can be told apart by isLast without one', async () => {
    const handled: unknown[] = []
    const ids = await add([{ n: 1 }, { n: 2 }])
    const started = world.start('a', {
      schema: z.object({
        n: z.number().refine(async (n) => await Promise.resolve(n !== 1), 'must not be one'),
      }),
      process: (record) => void handled.push(record.value),
    } as WorkerOptions)
    await world.committedIs('s', ids[1])
    expect(handled).toEqual([{ n: 2 }])
    expect(await seen(started, 'deadLetter')).toMatchObject({ recordId: ids[0] })
  })

  test('that never come fail when the time of the handler is over', async () => {
    const ids = await add([1])
    const started = world.start('a', {
      timeoutMs: 30,
      retry: { attempts: 2, initialDelayMs: 1, maxDelayMs: 1 },
      decode: () => new Promise(() => undefined),
      process: () => undefined,
    })
    expect(await seen(started, 'deadLetter')).toMatchObject({ recordId: ids[0], attempts: 2 })
    const [letter] = await started.worker.deadLetters.list()
    expect(letter?.error).toContain('was not handled within 30 ms')
  })

  test('that are waited for keep no worker from closing', async () => {
    const ids = await add([1])
    let isAsked = false
    const { running, worker } = world.start('a', {
      decode: () => {
        isAsked = true
        return new Promise(() => undefined)
      },
      process: () => undefined,
    })
    await expect.poll(() => isAsked).toBe(true)
    await worker.close()
    await running
    expect(await world.committed('s')).not.toBe(ids[0])
  })

  test('of other formats are decoded; what cannot be decoded is not retried, unless it asks for it', async () => {
    let isAway = true
    const values: unknown[] = []
    const ids = await add([1, 2, 3])
    const started = world.start('a', {
      decode: (record) => {
        if (record.id === ids[0] && isAway) {
          isAway = false
          throw retryAfter(1, 'the registry of schemas is away')
        }
        if (record.id === ids[1]) throw new Error('truncated')
        return `decoded ${record.json<number>()}`
      },
      process: (record) => void values.push(record.value),
    })
    await world.committedIs('s', ids[2])
    expect(values).toEqual(['decoded 1', 'decoded 3'])
    expect(await seen(started, 'retry')).toMatchObject({ recordId: ids[0], delayMs: 1 })
    const [letter] = await started.worker.deadLetters.list()
    expect(letter?.error).toMatch(/^RecordValueError: record .* cannot be decoded: truncated$/)
  })

  test('without options are JSON, read when asked for; a handler that does not ask may have other records', async () => {
    const values: unknown[] = []
    await world.redis.xadd('s', '*', 'data', 'no JSON')
    const ids = await add([{ a: 1 }])
    world.start('a', {
      process: (record) => {
        if (record.id === ids[0]) values.push(record.value)
      },
    })
    await world.committedIs('s', ids[0])
    expect(values).toEqual([{ a: 1 }])
  })

  test('that isLast asks for are there, and fail the record if they do not fit', async () => {
    const ids = await add([{ n: 1 }, { n: 'x' }, { n: 9 }])
    const started = world.start('a', {
      schema: z.object({ n: z.number() }),
      isLast: (record) => (record.value as { n: number }).n === 9,
      process: () => undefined,
    } as WorkerOptions)
    expect(await seen(started, 'streamEnded')).toMatchObject({ how: 'finished', position: ids[2] })
    expect((await started.worker.deadLetters.list()).map(({ recordId }) => recordId)).toEqual([ids[1]])
  })
})

describe('a producer with a schema', () => {
  test('sends in the order of the calls, whichever check takes longer', async () => {
    const schema = z.number().refine(async (n) => {
      for (let turns = 0; turns < 10 - n; turns++) await new Promise((resolve) => setImmediate(resolve))
      return true
    })
    const producer = new RecordProducer(world.redis, world.service, { schema })
    await Promise.all([1, 2, 3, 4].map((n) => producer.addJson('s', n)))
    const entries = await world.redis.xrange('s', '-', '+')
    expect(entries.map(([, fields]) => fields[1])).toEqual(['1', '2', '3', '4'])
  })

  test('checks what decode makes of the record', async () => {
    const producer = new RecordProducer(world.redis, world.service, {
      decode: (record) => {
        if (record.fields['n'] === undefined) throw new NonRetryableError('has no n')
        return Number(record.fields['n'])
      },
      schema: z.number().max(5),
    })
    await producer.add('s', { n: 5 })
    await expect(producer.add('s', { n: 6 })).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    await expect(producer.add('s', { m: 1 })).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    expect(await world.redis.xlen('s')).toBe(1)
  })
})

describe('options', () => {
  test.each([
    ['schema', { parse: () => undefined }],
    ['schema', { '~standard': { version: 2, validate: () => ({ value: 1 }) } }],
    ['decode', 'json'],
  ])('refuse a %s that is none', (option, value) => {
    const wrong = expect.objectContaining({
      code: 'OPTION_INVALID',
      message: expect.stringContaining(option),
    })
    expect(() => world.worker('a', { process: () => undefined, [option]: value })).toThrow(wrong)
    expect(() => new RecordProducer(world.redis, world.service, { [option]: value })).toThrow(wrong)
  })

  test('give the value its type', () => {
    const options = { client: { consumerId: 'a' } }
    const schema = z.object({ at: z.string().transform((text) => new Date(text)) })
    const checked = new StreamWorker(world.redis, 's', {
      ...options,
      schema,
      decode: (): unknown => null,
      process: (record, { records }) => {
        expectTypeOf(record.value).toEqualTypeOf<{ at: Date }>()
        expectTypeOf(records[0]?.value).toEqualTypeOf<{ at: Date } | undefined>()
      },
    })
    checked.use((record, _, next) => {
      expectTypeOf(record.value).toEqualTypeOf<{ at: Date }>()
      return next()
    })
    new StreamWorker(world.redis, 's', {
      ...options,
      decode: async (record) => await Promise.resolve(record.id.length),
      processBatch: (records) => {
        expectTypeOf(records[0]?.value).toEqualTypeOf<number | undefined>()
      },
    })
    new StreamWorker(world.redis, 's', {
      ...options,
      process: (record) => {
        expectTypeOf(record.value).toBeUnknown()
      },
    })
    const producer = new RecordProducer(world.redis, 's', { schema })
    expectTypeOf<Parameters<typeof producer.addJson>[1]>().toEqualTypeOf<{ at: string }>()
  })
})
