/** A handler is called as by a worker, without Redis. What a worker on a real server does is compared in the last test. */
import { FakeStream, runHandler, startRedis, TestingError } from '@redis-stream-client/testing'
import {
  BatchError,
  NonRetryableError,
  RecordProducer,
  retryAfter,
  type StreamRecord,
  StreamWorker,
  type WorkerOptions,
} from '@redis-stream-client/worker'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { describe, expect, test, vi } from 'vitest'

const THREE = [{ json: { n: 1 } }, { json: { n: 2 } }, { json: { n: 3 } }]

describe('runHandler', () => {
  test('calls the middleware it is given, and keeps what a batch is done with when it fails', async () => {
    const seen: unknown[] = []
    const result = await runHandler(
      {
        retry: { attempts: 1 },
        processBatch: (records) => {
          if (records.length === 3) throw new BatchError(1, new Error('the second'))
        },
      },
      THREE,
      {
        middleware: [
          (record, { records }, next) => {
            seen.push([record.id, records.length])
            return next()
          },
        ],
      },
    )
    expect(seen).toEqual([
      ['1-0', 3],
      ['3-0', 1],
    ])
    expect(result.deadLetters.map(({ recordId }) => recordId)).toEqual(['2-0'])
  })

  test('hands over the records in order, and says what is done with', async () => {
    const seen: unknown[] = []
    const result = await runHandler(
      (record, { stream }) => {
        seen.push([
          stream.dataStreamName,
          stream.additionalInfo,
          stream.fencingToken,
          record.id,
          record.json(),
        ])
      },
      [{ json: { n: 1 } }, { id: '5-1', fields: { n: 2 } }],
      {
        dataStreamName: 'orders-eu',
        additionalInfo: { region: 'eu' },
        fencingToken: 41,
      },
    )
    expect(seen).toEqual([
      ['orders-eu', { region: 'eu' }, 41, '1-0', { n: 1 }],
      ['orders-eu', { region: 'eu' }, 41, '5-1', 2],
    ])
    expect(result).toMatchObject({ position: '5-1', deadLetters: [], retries: [], isFinished: false })
    expect(result.calls.map(({ outcome }) => outcome)).toEqual(['ok', 'ok'])
  })

  test('tries again what fails, and tells the delays instead of waiting for them', async () => {
    const result = await runHandler(
      {
        process: (record, { attempt }) => {
          if (record.id === '2-0' && attempt < 3) throw new Error(`attempt ${attempt}`)
          if (record.id === '3-0' && attempt === 1) throw retryAfter(60_000)
        },
        retry: { initialDelayMs: 2000, jitter: 0 },
      },
      THREE,
    )
    expect(result.calls.map(({ records, attempt, outcome }) => [...records, attempt, outcome])).toEqual([
      ['1-0', 1, 'ok'],
      ['2-0', 1, 'failed'],
      ['2-0', 2, 'failed'],
      ['2-0', 3, 'ok'],
      ['3-0', 1, 'failed'],
      ['3-0', 2, 'ok'],
    ])
    expect(result.retries.map(({ recordId, delayMs }) => [recordId, delayMs])).toEqual([
      ['2-0', 2000],
      ['2-0', 4000],
      ['3-0', 60_000],
    ])
    expect(result.calls[1]?.error).toEqual(new Error('attempt 1'))
    expect(result.position).toBe('3-0')
  })

  test('buries what failed for good, and goes on or halts', async () => {
    const process: WorkerOptions['process'] = (record) => {
      if (record.id === '2-0') throw new NonRetryableError('no such order')
    }
    const skipping = await runHandler(process, THREE)
    expect(skipping.deadLetters).toEqual([
      { recordId: '2-0', attempts: 1, error: new NonRetryableError('no such order') },
    ])
    expect(skipping).toMatchObject({ position: '3-0', isHalted: false })
    const halting = await runHandler({ process, onExhausted: 'halt' }, THREE)
    expect(halting).toMatchObject({ position: '1-0', isHalted: true })
    expect(halting.calls).toHaveLength(2)
  })

  test('goes on counting where an earlier owner has stopped', async () => {
    const result = await runHandler(
      {
        process: () => {
          throw new Error('down')
        },
        retry: { attempts: 4 },
      },
      [{ json: 1 }],
      { attempt: 3 },
    )
    expect(result.calls.map(({ attempt }) => attempt)).toEqual([3, 4])
    expect(result.deadLetters).toMatchObject([{ recordId: '1-0', attempts: 4 }])
  })

  test('ends an attempt that takes too long, and leaves a handler that does not listen to itself', async () => {
    const never = new Promise<void>(() => undefined)
    const reasons: unknown[] = []
    const result = await runHandler(
      {
        process: async (record, { attempt, signal }) => {
          if (attempt > 1) return
          if (record.id === '2-0') return await never
          await new Promise((resolve) => signal.addEventListener('abort', resolve))
          reasons.push(signal.reason)
          throw signal.reason
        },
        timeoutMs: 20,
        abandonAfterMs: 20,
      },
      [{ json: 1 }, { json: 2 }],
    )
    expect(result.calls.map(({ outcome }) => outcome)).toEqual(['timeout', 'ok', 'timeout', 'ok'])
    expect(result.abandoned).toEqual(['2-0'])
    expect(reasons).toMatchObject([{ code: 'RECORD_TIMEOUT' }])
  })

  test('gives batches, and one record at a time after a batch has failed', async () => {
    const result = await runHandler(
      {
        processBatch: (records) => {
          if (records.some(({ id }) => id === '2-0')) throw new NonRetryableError('2-0 is to blame')
        },
        batchSize: 3,
      },
      [...THREE, { json: 4 }],
    )
    expect(result.calls.map(({ records }) => records)).toEqual([
      ['1-0', '2-0', '3-0'],
      ['1-0'],
      ['2-0'],
      ['3-0'],
      ['4-0'],
    ])
    expect(result.deadLetters.map(({ recordId }) => recordId)).toEqual(['2-0'])
  })

  test('tells what transactions have executed, and refuses what a worker refuses', async () => {
    const replies: unknown[] = []
    const result = await runHandler(
      async (record, { transaction }) => {
        if (record.id === '3-0') return await transaction(record, (multi) => multi.subscribe('s'))
        replies.push(await transaction(record, (multi) => multi.hincrby('balances', 'a', 5).incr('n')))
        throw new Error('after the transaction, which is done with')
      },
      [{ json: 1 }, { json: 2 }, { json: 3 }],
      {
        reply: ([name, ...args]) => {
          if (name === 'incr' && replies.length === 1) throw new Error('WRONGTYPE')
          return [name, ...args].join(' ')
        },
      },
    )
    expect(replies).toEqual([['hincrby balances a 5', 'incr n']])
    expect(result.transactions).toEqual([
      {
        recordId: '1-0',
        commands: [
          ['hincrby', 'balances', 'a', '5'],
          ['incr', 'n'],
        ],
      },
      { recordId: '2-0', commands: [['hincrby', 'balances', 'a', '5']] },
    ])
    // Redis broke the second off, so that another attempt would repeat its first command.
    expect(result.deadLetters.map(({ recordId, attempts }) => [recordId, attempts])).toEqual([
      ['2-0', 1],
      ['3-0', 16],
    ])
    expect(result.calls[1]?.error).toMatchObject({ code: 'TRANSACTION_FAILED' })
    expect(result.calls[2]?.error).toMatchObject({ code: 'TRANSACTION_INVALID' })
  })

  test('gives typed values, and buries records whose value cannot be read', async () => {
    const seen: number[] = []
    const options = {
      decode: (record: StreamRecord): { n: number } => {
        if (record.id === '2-0') throw new Error('no such format')
        return { n: Number(record.fields['n']) }
      },
      process: (record: StreamRecord<{ n: number }>): void => void seen.push(record.value.n),
    }
    const result = await runHandler(options, [
      { fields: { n: 1 } },
      { fields: { n: 2 } },
      { fields: { n: 3 } },
    ])
    expect(seen).toEqual([1, 3])
    expect(result.deadLetters).toMatchObject([{ recordId: '2-0', attempts: 1 }])
    expect(result.calls).toHaveLength(2)
  })

  test('stops at the end of the stream', async () => {
    const byHandler = await runHandler((record, { done }) => {
      if (record.id === '2-0') done()
    }, THREE)
    const byOption = await runHandler({ process: () => undefined, isLast: ({ id }) => id === '2-0' }, THREE)
    for (const result of [byHandler, byOption]) {
      expect(result).toMatchObject({ position: '2-0', isFinished: true })
      expect(result.calls).toHaveLength(2)
    }
  })

  test('commits no more often than a worker, and before a retry', async () => {
    const result = await runHandler(
      {
        process: (record, { attempt }) => {
          if (record.id === '2-0' && attempt === 1) throw new Error('once')
        },
        commitEvery: 2,
      },
      [...THREE, { json: 4 }, { json: 5 }],
    )
    expect(result.commits).toEqual(['1-0', '3-0', '5-0'])
  })

  test('interrupts the handler of a stream that is lost', async () => {
    const stream = new FakeStream('s')
    const result = await runHandler(
      async (record, { signal }) => {
        if (record.id !== '2-0') return
        stream.disown('taken-over')
        expect(signal.aborted).toBe(true)
        expect(signal.reason).toMatchObject({ code: 'STREAM_NOT_OWNED' })
        throw signal.reason
      },
      THREE,
      { stream },
    )
    expect(result.calls.map(({ outcome }) => outcome)).toEqual(['ok', 'interrupted'])
    expect(result).toMatchObject({ position: '1-0', commits: [] })
  })

  test('lets the handler finish and begins no other when the worker closes', async () => {
    const closing = new AbortController()
    const result = await runHandler(
      async (record) => {
        if (record.id === '2-0') closing.abort()
        await Promise.resolve()
      },
      THREE,
      { signal: closing.signal },
    )
    expect(result).toMatchObject({ position: '2-0', commits: ['2-0'] })
    expect(result.calls).toHaveLength(2)
  })

  test('aborts a handler that outlasts the drain time', async () => {
    const closing = new AbortController()
    const result = await runHandler(
      {
        process: async (_, { signal }) => {
          closing.abort(new Error('a deploy'))
          await new Promise((_, reject) => signal.addEventListener('abort', reject))
        },
        drainMs: 10,
      },
      THREE,
      { signal: closing.signal },
    )
    expect(result.calls.map(({ outcome }) => outcome)).toEqual(['interrupted'])
    expect(result.position).toBeNull()
  })

  test('goes on after a commit that Redis has refused, and tells of it', async () => {
    const stream = new FakeStream('s')
    stream.failNext('commit')
    const result = await runHandler({ process: () => undefined, commitEvery: 1 }, THREE, { stream })
    expect(result.errors).toMatchObject([{ code: 'REDIS_ERROR' }])
    expect(result).toMatchObject({ position: '3-0', commits: ['1-0', '2-0', '3-0'] })
  })

  test('works with timers that a test has replaced', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
    try {
      const result = await runHandler((_, { attempt }) => {
        if (attempt < 3) throw new Error('not yet')
      }, THREE)
      expect(result.position).toBe('3-0')
    } finally {
      vi.useRealTimers()
    }
  })

  test.each([
    [[{ id: 'x', json: 1 }], {}],
    [
      [
        { id: '2-0', json: 1 },
        { id: '1-0', json: 2 },
      ],
      {},
    ],
    [[{}], {}],
    [[{ json: 1, fields: { a: 1 } }], {}],
    [[{ json: 1 }], { attempt: 0 }],
  ])('refuses records %j with options %j', async (records, options) => {
    const running = runHandler(() => undefined, records as never, options)
    await expect(running).rejects.toBeInstanceOf(TestingError)
    await expect(running).rejects.toMatchObject({ code: 'OPTION_INVALID' })
  })

  test('refuses the options that a worker refuses', async () => {
    const running = runHandler({ process: () => undefined, timeoutMs: -1 }, THREE)
    await expect(running).rejects.toMatchObject({ code: 'OPTION_INVALID', option: 'timeoutMs' })
  })
})

test('runHandler calls a handler as a worker on a real server does', async () => {
  const scenario = (calls: unknown[]): WorkerOptions => ({
    process: async (record, { attempt, done, signal, transaction }) => {
      const { n } = record.json<{ n: number }>()
      calls.push([n, attempt, signal.aborted])
      if (n === 2 && attempt < 3) throw new Error('not yet')
      if (n === 3) throw new NonRetryableError('never')
      if (n === 4) await transaction(record, (multi) => multi.incr('n'))
      if (n === 5 && attempt === 1) throw retryAfter(1)
      if (n === 6) done()
    },
    retry: { attempts: 4, initialDelayMs: 1, maxDelayMs: 1 },
  })
  const records = [1, 2, 3, 4, 5, 6, 7].map((n) => ({ n }))

  const alone: unknown[] = []
  const result = await runHandler(
    scenario(alone),
    records.map((json) => ({ json })),
  )

  await using server = await startRedis()
  const redis = new Redis(server.url)
  const onServer: unknown[] = []
  const worker = new StreamWorker(redis, 'orders', {
    ...scenario(onServer),
    client: { consumerId: 'test' },
    logger: pino({ level: 'silent' }),
  })
  const letters: unknown[] = []
  worker.on('deadLetter', ({ attempts }) => letters.push(attempts))
  worker.on('streamEnded', () => void worker.close())
  await new RecordProducer(redis, 'orders').addMany(
    's',
    records.map((value) => ({ fields: { data: JSON.stringify(value) } })),
  )
  await worker.run()
  redis.disconnect()

  expect(alone).toEqual(onServer)
  expect(result.deadLetters.map(({ attempts }) => attempts)).toEqual(letters)
  expect(result.isFinished).toBe(true)
})
