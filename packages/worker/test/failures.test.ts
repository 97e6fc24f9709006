import { eventually } from '@redis-stream-client/test/support/eventually'
import { hostileValues } from '@redis-stream-client/test/support/hostile-values'
import { DeadLetters, NonRetryableError, retryAfter } from '@redis-stream-client/worker'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, type Running, seen, World } from './support/world.js'

const QUICK = { attempts: 3, initialDelayMs: 5, maxDelayMs: 20, factor: 2, jitter: 0 }

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

describe('retries', () => {
  test('tries a record again, in order, while other streams go on', async () => {
    const ids = await world.fill('bad', 3)
    const handled = new Handled()
    const attempts: number[] = []
    const started = world.start('a', {
      retry: { ...QUICK, attempts: 5 },
      process: (record, { attempt, stream }) => {
        if (record.id === ids[1] && stream.dataStreamName === 'bad') {
          attempts.push(attempt)
          if (attempt < 4) throw new Error(`no ${attempt}`)
        }
        handled.note(stream.dataStreamName, record.id)
      },
    })
    await world.fill('good', 3)
    expect(await handled.has('bad', 3)).toEqual(ids)
    await handled.has('good', 3)
    expect(attempts).toEqual([1, 2, 3, 4])
    const retries = started.events.filter(({ event }) => event === 'retry')
    expect(retries.map(({ attempt, delayMs }) => [attempt, delayMs])).toEqual([
      [1, 5],
      [2, 10],
      [3, 20],
    ])
    expect(await started.worker.deadLetters.count()).toBe(0)
  })

  test('keeps nothing of waiting streams in memory that others need', async () => {
    const handled = new Handled()
    const started = world.start('a', {
      maxBufferedRecords: 30,
      readCount: 10,
      retry: { attempts: 2, initialDelayMs: 60_000, maxDelayMs: 60_000, jitter: 0 },
      process: ({ dataStreamName, id }) => {
        if (dataStreamName.startsWith('bad')) throw new Error('down')
        handled.note(dataStreamName, id)
      },
    })
    for (let n = 0; n < 10; n++) await world.fill(`bad${n}`, 20)
    await eventually(
      'all bad ones wait',
      () => started.events.filter(({ event }) => event === 'retry').length === 10,
    )
    const ids = await world.fill('good', 50)
    expect(await handled.has('good', 50)).toEqual(ids)
  })

  test('goes on with the record that failed, though it was read again', async () => {
    const ids = await world.fill('s', 3)
    const seenIds: string[] = []
    world.start('a', {
      retry: { attempts: 2, initialDelayMs: 1000, maxDelayMs: 1000, jitter: 0 },
      process: ({ id }, { attempt }) => {
        seenIds.push(id)
        if (id === ids[1] && attempt === 1) throw new Error('once')
      },
    })
    await world.committedIs('s', ids[2])
    expect(seenIds).toEqual([ids[0], ids[1], ids[1], ids[2]])
  })

  test('of a batch wait as long as retryAfter says', async () => {
    const ids = await world.fill('s', 3)
    const calls: number[] = []
    world.start('a', {
      processBatch: () => {
        calls.push(performance.now())
        if (calls.length === 1) throw retryAfter(120)
      },
    })
    await world.committedIs('s', ids[2])
    expect((calls[1] as number) - (calls[0] as number)).toBeGreaterThanOrEqual(115)
  })

  test('waits as long as retryAfter says', async () => {
    const ids = await world.fill('s', 1)
    const times: number[] = []
    const started = world.start('a', {
      retry: QUICK,
      process: () => {
        times.push(performance.now())
        if (times.length === 1) throw retryAfter(120)
      },
    })
    await world.committedIs('s', ids[0])
    expect((times[1] as number) - (times[0] as number)).toBeGreaterThanOrEqual(115)
    expect(await seen(started, 'retry')).toMatchObject({ delayMs: 120, attempt: 1 })
  })

  test('counts attempts on over the crash of an owner', async () => {
    const ids = await world.fill('s', 1, { assign: false })
    const failed = { id: ids[0], attempts: 2, firstAtMs: 5, lastAtMs: 6, error: 'before' }
    await world.redis.hset('orders-checkpoints', 's', JSON.stringify({ id: '0-0', failed }))
    await world.assign('s')
    const attempts: number[] = []
    const started = world.start('a', {
      retry: QUICK,
      process: (_, { attempt }) => {
        attempts.push(attempt)
        throw new Error('still')
      },
    })
    const letter = await seen(started, 'deadLetter')
    expect(letter).toMatchObject({ attempts: 3 })
    expect(attempts).toEqual([3])
    expect(await started.worker.deadLetters.list()).toMatchObject([{ attempts: 3, firstAtMs: 5 }])
  })

  test('buries a record whose attempts were used up when its owner crashed, without calling the handler', async () => {
    const ids = await world.fill('s', 2, { assign: false })
    const failed = { id: ids[0], attempts: 3, firstAtMs: 5, lastAtMs: 6, error: 'Error: last words' }
    await world.redis.hset('orders-checkpoints', 's', JSON.stringify({ id: '0-0', failed }))
    await world.assign('s')
    const handled = new Handled()
    const started = world.start('a', { retry: QUICK, process: ({ id }) => handled.note('s', id) })
    expect(await handled.has('s', 1)).toEqual([ids[1]])
    expect(await started.worker.deadLetters.list()).toMatchObject([{ error: 'Error: last words' }])
  })

  test('handles the records of a failed batch one at a time, and buries only the one to blame', async () => {
    const ids = await world.fill('s', 10)
    const sizes: number[] = []
    const started = world.start('a', {
      retry: QUICK,
      batchSize: 5,
      processBatch: (records) => {
        sizes.push(records.length)
        if (records.some(({ id }) => id === ids[2])) throw new Error('one of these')
      },
    })
    await world.committedIs('s', ids[9])
    expect(await started.worker.deadLetters.list()).toMatchObject([{ recordId: ids[2], attempts: 3 }])
    expect(sizes.filter((size) => size === 5).length).toBeLessThanOrEqual(2)
  })
})

describe('a value that cannot be read', () => {
  test.each(hostileValues)('is an error like any other: %s', async (_, thrown) => {
    const ids = await world.fill('s', 3)
    const attempts: number[] = []
    const started = world.start('a', {
      retry: { ...QUICK, attempts: 2 },
      process: ({ id }, { attempt }) => {
        if (id !== ids[1]) return
        attempts.push(attempt)
        throw thrown
      },
    })
    await world.committedIs('s', ids[2])
    expect(attempts).toEqual([1, 2])
    const letters = await started.worker.deadLetters.list()
    expect(letters).toMatchObject([{ recordId: ids[1], attempts: 2 }])
    expect(Buffer.byteLength(letters[0]?.error as string)).toBeLessThanOrEqual(1000)
    expect(started.events.filter(({ event }) => event === 'error')).toEqual([])
  })

  test.each(hostileValues)('breaks no batch, breaker or recorder: %s', async (_, thrown) => {
    const ids = await world.fill('s', 2)
    const refuse = (): never => {
      throw thrown
    }
    const started = world.start('a', {
      retry: { ...QUICK, attempts: 2 },
      circuitBreaker: { failures: 100, isFailure: refuse },
      metrics: { handled: refuse, committed: refuse },
      processBatch: refuse,
    })
    await world.committedIs('s', ids[1])
    expect((await started.worker.deadLetters.list()).map(({ recordId }) => recordId)).toEqual(ids)
    expect(started.events.filter(({ event }) => event === 'error')).toEqual([])
  })
})

describe('dead letters', () => {
  test('says everything about the record, and goes on with the next', async () => {
    await world.redis.xadd('s', '7-0', 'a', '1', 'b', 'ü', 'a', '2')
    const ids = await world.fill('s', 1)
    const started = world.start('a', {
      retry: QUICK,
      process: ({ id }) => {
        if (id === '7-0') throw new NonRetryableError('never')
      },
    })
    await world.committedIs('s', ids[0])
    const letters = await started.worker.deadLetters.list()
    expect(letters).toEqual([
      {
        id: expect.stringMatching(/^\d+-\d+$/),
        dataStreamName: 's',
        recordId: '7-0',
        fields: { a: '2', b: 'ü' },
        rawFields: [
          [Buffer.from('a'), Buffer.from('1')],
          [Buffer.from('b'), Buffer.from('ü')],
          [Buffer.from('a'), Buffer.from('2')],
        ],
        error: 'NonRetryableError: never',
        attempts: 1,
        firstAtMs: expect.any(Number),
        lastAtMs: expect.any(Number),
        owner: 'redis-consumer-a',
      },
    ])
    expect(started.events.some(({ event }) => event === 'retry')).toBe(false)
  })

  test('halts the stream if told to, also for the next owner, until somebody resumes it', async () => {
    const ids = await world.fill('s', 3)
    const handled = new Handled()
    let isCured = false
    const options = {
      retry: QUICK,
      onExhausted: 'halt' as const,
      process: ({ id }: { id: string }): void => {
        if (id === ids[1] && !isCured) throw new Error('ill')
        handled.note('s', id)
      },
    }
    const a = world.start('a', options)
    expect(await seen(a, 'streamHalted')).toMatchObject({ reason: 'exhausted', recordId: ids[1] })
    expect((await a.worker.status()).streams).toMatchObject([{ state: 'halted', position: ids[0] }])
    await expect(a.worker.resume('other')).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
    await a.worker.close()
    const b = world.start('b', options)
    expect(await seen(b, 'streamHalted')).toMatchObject({ reason: 'exhausted', recordId: ids[1] })
    expect(await b.worker.deadLetters.count()).toBe(1)
    isCured = true
    await b.worker.resume('s')
    await handled.has('s', 3)
    expect(handled.of('s')).toEqual(ids)
    await expect(b.worker.resume('s')).rejects.toMatchObject({ code: 'STREAM_NOT_HALTED' })
  })

  test('goes on behind the record a stream was halted at, if told to skip it', async () => {
    const ids = await world.fill('s', 3)
    const handled = new Handled()
    const started = world.start('a', {
      retry: QUICK,
      onExhausted: 'halt',
      process: ({ id }) => {
        if (id === ids[0]) throw new NonRetryableError('ill')
        handled.note('s', id)
      },
    })
    await seen(started, 'streamHalted')
    await started.worker.resume('s', { skip: true })
    expect(await handled.has('s', 2)).toEqual(ids.slice(1))
    expect(started.events.filter(({ event }) => event === 'streamResumed')).toHaveLength(1)
  })

  test('does not pass over a record whose dead letter cannot be written', async () => {
    await world.redis.set('orders-dead-records', 'in the way')
    const ids = await world.fill('s', 2)
    const handled = new Handled()
    const started = world.start('a', {
      retry: { ...QUICK, attempts: 1 },
      process: ({ id }) => {
        if (id === ids[0]) throw new Error('ill')
        handled.note('s', id)
      },
    })
    await seen(started, 'error')
    expect(handled.of('s')).toEqual([])
    await world.redis.del('orders-dead-records')
    await handled.has('s', 1)
    expect(await started.worker.deadLetters.list()).toMatchObject([{ recordId: ids[0] }])
  })

  test('can be read page by page, replayed and dropped', async () => {
    const ids = await world.fill('s', 3)
    let isCured = false
    const handled = new Handled()
    const { worker } = world.start('a', {
      process: ({ fields, id }) => {
        if (!isCured) throw new NonRetryableError('ill')
        handled.note('s', `${id} ${fields['n']}`)
      },
    })
    await world.committedIs('s', ids[2])
    const { deadLetters } = worker
    const [first] = await deadLetters.list({ count: 1 })
    const rest = await deadLetters.list({ after: first?.id as string })
    expect([first, ...rest].map((letter) => letter?.recordId)).toEqual(ids)
    isCured = true
    const id = await deadLetters.replay(first?.id as string)
    expect(await handled.has('s', 1)).toEqual([`${id} 0`])
    await deadLetters.drop(rest[0]?.id as string)
    expect(await deadLetters.count()).toBe(1)
    await expect(deadLetters.replay(first?.id as string)).rejects.toMatchObject({ code: 'DEAD_LETTER_GONE' })
    await expect(deadLetters.drop(first?.id as string)).rejects.toMatchObject({ code: 'DEAD_LETTER_GONE' })
    await expect(deadLetters.list({ count: 0 })).rejects.toMatchObject({ code: 'OPTION_INVALID' })
    await world.redis.set('orders-dead-records', 'in the way')
    await expect(deadLetters.list()).rejects.toMatchObject({ code: 'REDIS_ERROR' })
  })
})

test('a list of large dead letters is shorter than it may be, and goes on after its last one', async () => {
  const facts = ['stream', 's', 'id', '1-0', 'fields', JSON.stringify(['data', 'x'.repeat(1_000_000)])]
  for (let n = 0; n < 50; n++) await world.redis.xadd('orders-dead-records', '*', ...facts)
  const { worker } = world.start('a', { process: () => undefined })
  const lengths: number[] = []
  let after: string | undefined
  for (;;) {
    const page = await worker.deadLetters.list({ count: 50, after })
    if (page.length === 0) break
    lengths.push(page.length)
    after = page.at(-1)?.id
  }
  expect(lengths).toEqual([17, 17, 16])
})

describe('a dead letter with more fields than a script can pass on', () => {
  test('is replayed whole, and once', async () => {
    const fields = Array.from({ length: 4500 }, (_, n) => [`field ${n}`, String(n)])
    const recordId = await world.redis.xadd('s', '*', ...fields.flat())
    await world.assign('s')
    let isCured = false
    const seenFields: unknown[] = []
    const { worker } = world.start('a', {
      process: (record) => {
        if (!isCured) throw new NonRetryableError('ill')
        seenFields.push(record.fields)
      },
    })
    await world.committedIs('s', recordId as string)
    const [letter] = await worker.deadLetters.list()
    isCured = true
    const id = await worker.deadLetters.replay(letter?.id as string)
    await world.committedIs('s', id)
    expect(seenFields).toEqual([Object.fromEntries(fields)])
    expect(await worker.deadLetters.count()).toBe(0)
    await expect(worker.deadLetters.replay(letter?.id as string)).rejects.toMatchObject({
      code: 'DEAD_LETTER_GONE',
    })
  })
})

test('dead letters are counted, dropped and replayed over a connection that answers numbers as text', async () => {
  const deadLetters = new DeadLetters(world.server.client({ stringNumbers: true }), 'orders')
  const large = JSON.stringify(Array.from({ length: 9000 }, (_, n) => String(n)))
  const add = (fields: string): Promise<string | null> =>
    world.redis.xadd('orders-dead-records', '*', 'stream', 's', 'fields', fields)
  const small = await add('["n","1"]')
  const id = await add(large)
  expect(await deadLetters.count()).toBe(2)
  const replayed = await deadLetters.replay(id as string)
  expect(await world.redis.xrange('s', replayed, replayed)).toHaveLength(1)
  await deadLetters.drop(small as string)
  await expect(deadLetters.drop(small as string)).rejects.toMatchObject({ code: 'DEAD_LETTER_GONE' })
})

describe('time limits', () => {
  test('aborts the signal of a record that takes too long, and tries again', async () => {
    const ids = await world.fill('s', 1)
    const reasons: unknown[] = []
    const started = world.start('a', {
      retry: QUICK,
      timeoutMs: 40,
      process: async (_, { attempt, signal }) => {
        if (attempt > 1) return
        await new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            reasons.push(signal.reason)
            reject(new Error('stopped'))
          })
        })
      },
    })
    await world.committedIs('s', ids[0])
    expect(reasons).toMatchObject([{ code: 'RECORD_TIMEOUT', facts: { recordId: ids[0] } }])
    expect(await seen(started, 'retry')).toMatchObject({ error: { code: 'RECORD_TIMEOUT' } })
    expect(started.events.some(({ event }) => event === 'abandoned')).toBe(false)
  })

  test.each([
    ['while it waits', (isWritten: () => boolean) => eventually('the line is written', isWritten)],
    [
      'when it has computed all the time',
      (): void => {
        for (const until = performance.now() + 60; performance.now() < until; );
      },
    ],
  ])('writes one line about a handler that takes long, %s', async (_, handle) => {
    const [id] = await world.fill('s', 1)
    const lines: object[] = []
    const logger = pino({ level: 'warn' }, { write: (line) => void lines.push(JSON.parse(line) as object) })
    const isWritten = (): boolean => lines.some((line) => 'record' in line)
    const started = world.start('a', { logger, warnAfterMs: 20, process: () => handle(isWritten) })
    await world.committedIs('s', id)
    expect(started.events.filter(({ event }) => event === 'retry')).toEqual([])
    expect(lines.filter((line) => 'record' in line)).toMatchObject([
      {
        dataStreamName: 's',
        record: id,
        attempt: 1,
        runningMs: expect.any(Number),
        msg: 'a handler takes long: its stream waits until it ends',
      },
    ])
  })

  test('leaves a handler to itself that ignores its signal, and refuses what it does later', async () => {
    const ids = await world.fill('s', 2)
    const late: unknown[] = []
    let wake = (): void => undefined
    const sleeping = new Promise<void>((resolve) => {
      wake = resolve
    })
    const handled = new Handled()
    const started = world.start('a', {
      retry: QUICK,
      timeoutMs: 30,
      abandonAfterMs: 30,
      process: async (record, { attempt, done, transaction }) => {
        if (record.id !== ids[0] || attempt > 1) return handled.note('s', record.id)
        await sleeping
        await transaction(record, (multi) => multi.set('late', 'yes')).catch((error) => late.push(error))
        try {
          done()
        } catch (error) {
          late.push(error)
        }
      },
    })
    expect(await seen(started, 'abandoned')).toMatchObject({ recordId: ids[0] })
    expect(await handled.has('s', 2)).toEqual(ids)
    wake()
    await eventually('the late calls are refused', () => late.length === 2)
    expect(late).toMatchObject([{ code: 'ATTEMPT_OVER' }, { code: 'ATTEMPT_OVER' }])
    expect(await world.redis.get('late')).toBeNull()
  })
})

describe('metrics, events and status', () => {
  test('a recorder hears of everything, and one that throws harms nobody', async () => {
    const ids = await world.fill('s', 3)
    const heard = new Map<string, object[]>()
    const note =
      (name: string) =>
      (event: object): void => {
        heard.set(name, [...(heard.get(name) ?? []), event])
        throw new Error('broken recorder')
      }
    const started = world.start('a', {
      retry: { ...QUICK, attempts: 2 },
      lagIntervalMs: 20,
      metrics: {
        handled: note('handled'),
        retry: note('retry'),
        deadLettered: note('deadLettered'),
        committed: note('committed'),
        streamStarted: note('streamStarted'),
        streamEnded: note('streamEnded'),
        lag: note('lag'),
        totalLag: note('totalLag'),
      },
      process: ({ id }) => {
        if (id === ids[1]) throw new Error('ill')
      },
    })
    started.worker.on('retry', () => {
      throw new Error('broken listener')
    })
    await world.committedIs('s', ids[2])
    await eventually('lag is reported', () =>
      JSON.stringify(heard.get('totalLag')).includes('"streams":1,"records":0'),
    )
    await started.worker.close()
    expect(heard.get('handled')).toMatchObject([
      { outcome: 'ok', attempt: 1, records: 1 },
      { outcome: 'failed', attempt: 1 },
      { outcome: 'failed', attempt: 2 },
      { outcome: 'ok', attempt: 1 },
    ])
    expect(heard.get('retry')).toMatchObject([{ attempt: 1, delayMs: 5 }])
    expect(heard.get('deadLettered')).toEqual([{ attempts: 2 }])
    expect(heard.get('streamEnded')).toEqual([{ how: 'released' }])
    expect(heard.get('totalLag')).toContainEqual({ streams: 1, records: 0, greatestLagMs: 0 })
  })

  test('status tells position, lag and failure of every stream', async () => {
    const ids = await world.fill('s', 5)
    const started: Running = world.start('a', {
      retry: { attempts: 10, initialDelayMs: 60_000, maxDelayMs: 60_000 },
      process: ({ id }) => {
        if (id === ids[2]) throw new Error('ill')
      },
    })
    await seen(started, 'retry')
    await world.committedIs('s', ids[1])
    const status = await started.worker.status()
    expect(status).toMatchObject({ breaker: 'off', running: 0, readers: ['ready', 'ready'] })
    expect(status.client).toMatchObject({ session: 'held', owned: 1 })
    expect(status.streams).toMatchObject([
      {
        dataStreamName: 's',
        state: 'retrying',
        position: ids[1],
        committed: ids[1],
        uncommitted: 0,
        handled: 2,
        failure: { id: ids[2], attempts: 1, error: 'Error: ill' },
        lag: { records: 3, lagMs: expect.any(Number) },
      },
    ])
  })
})
