import {
  BatchError,
  NonRetryableError,
  type StreamRecord,
  type WorkerError,
} from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { seen, World } from './support/world.js'

const RETRY = { attempts: 3, initialDelayMs: 5, maxDelayMs: 5, jitter: 0 }

/** A first read brings few records, because their sizes are not known yet. */
const FILLED = { batchWaitMs: 2000 }

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

const number = (record: StreamRecord): number => Number(record.fields['n'])

/** Starts a worker on a stream of records 0 to 9, all in one batch. */
async function workInBatches(
  handle: (
    records: readonly StreamRecord[],
    through: (record: StreamRecord) => void,
    attempt: number,
  ) => void,
) {
  const ids = await world.fill('s', 10, { assign: false })
  const batches: number[][] = []
  const started = world.start('a', {
    retry: RETRY,
    ...FILLED,
    batchSize: 10,
    processBatch: (records, { attempt, through }) => {
      batches.push(records.map(number))
      handle(records, through, attempt)
    },
  })
  await world.assign('s')
  return { batches, ids, started }
}

describe('a batch that names the record to blame', () => {
  test('keeps what went well, and begins again with that record', async () => {
    const { batches, ids, started } = await workInBatches((records, _, attempt) => {
      const index = records.findIndex((record) => number(record) === 4)
      if (index >= 0 && attempt < 3) throw new BatchError(index, new Error(`no ${attempt}`))
    })
    await world.committedIs('s', ids[9])
    expect(batches).toEqual([
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
      [4, 5, 6, 7, 8, 9],
      [4, 5, 6, 7, 8, 9],
    ])
    const retries = started.events.filter(({ event }) => event === 'retry')
    expect(retries.map(({ attempt, recordId }) => [recordId, attempt])).toEqual([
      [ids[4], 1],
      [ids[4], 2],
    ])
  })

  test('has only that record among the dead letters, with the cause, when its attempts are used up', async () => {
    const { batches, ids, started } = await workInBatches((records) => {
      const index = records.findIndex((record) => number(record) === 7)
      if (index >= 0) throw new BatchError(index, new Error('cannot be shipped'))
    })
    await world.committedIs('s', ids[9])
    expect(batches).toEqual([
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
      [7, 8, 9],
      [7, 8, 9],
      [8, 9],
    ])
    const letters = await started.worker.deadLetters.list()
    expect(letters.map(({ attempts, error, recordId }) => [recordId, attempts, error])).toEqual([
      [ids[7], 3, 'Error: cannot be shipped'],
    ])
  })

  test('does not try it again if the cause says that it is useless', async () => {
    const { batches, ids } = await workInBatches((records) => {
      const index = records.findIndex((record) => number(record) === 9)
      throw index === 9 ? new BatchError(9, new NonRetryableError('broken')) : new Error('never')
    })
    await world.committedIs('s', ids[9])
    expect(batches).toEqual([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
  })

  test('is handled one record at a time if the index is none of the batch', async () => {
    const { batches, ids } = await workInBatches((records) => {
      if (records.length === 10) throw new BatchError(10, new Error('off by one'))
    })
    await world.committedIs('s', ids[9])
    expect(batches.slice(1)).toEqual(ids.map((_, n) => [n]))
  })

  test('must name an index', () => {
    for (const index of [-1, 0.5, Number.NaN]) {
      expect(() => new BatchError(index, null)).toThrow(RangeError)
    }
  })
})

describe('a batch', () => {
  test('waits until it is full, or its first record has waited for long enough', async () => {
    const batches: number[][] = []
    const { worker } = world.start('a', {
      batchSize: 4,
      batchWaitMs: 3000,
      processBatch: (records) => void batches.push(records.map(number)),
    })
    await world.fill('s', 1)
    await expect.poll(async () => (await worker.status()).buffered, { timeout: 15_000 }).toBe(1)
    await world.fill('s', 5, { first: 1, assign: false })
    await expect.poll(() => batches.flat(), { timeout: 15_000 }).toEqual([0, 1, 2, 3, 4, 5])
    expect(batches).toEqual([
      [0, 1, 2, 3],
      [4, 5],
    ])
  })

  test('has no more bytes than it may have, and one record however large', async () => {
    const batches: number[][] = []
    for (const [n, size] of [100, 100, 9000, 100, 100, 100].entries()) {
      await world.redis.xadd('s', '*', 'n', n, 'text', 'x'.repeat(size))
    }
    const started = world.start('a', {
      ...FILLED,
      batchBytes: 1000,
      processBatch: (records) => void batches.push(records.map(number)),
    })
    await world.assign('s')
    await expect.poll(() => batches.flat(), { timeout: 15_000 }).toEqual([0, 1, 2, 3, 4, 5])
    expect(batches).toEqual([[0, 1], [2], [3, 4], [5]])
    await started.worker.close()
  })

  test('is not cut because records before it are not committed: those are committed first', async () => {
    const batches: number[][] = []
    const committed: unknown[] = []
    const ids = await world.fill('s', 2, { assign: false })
    world.start('a', {
      ...FILLED,
      commitEvery: 4,
      commitIntervalMs: 60_000,
      batchSize: 4,
      processBatch: async (records) => {
        batches.push(records.map(number))
        committed.push(await world.committed('s'))
        if (batches.length === 1) await world.fill('s', 4, { first: 2, assign: false })
      },
    })
    await world.assign('s')
    await expect.poll(() => committed.length, { timeout: 15_000 }).toBe(2)
    expect(batches).toEqual([
      [0, 1],
      [2, 3, 4, 5],
    ])
    expect(committed[1]).toBe(ids[1])
  })
})

describe('through', () => {
  test('keeps what is done with, and blames the record after it for what is thrown', async () => {
    const { batches, ids, started } = await workInBatches((records, through, attempt) => {
      for (const record of records) {
        if (number(record) === 5 && attempt === 1) throw new Error('the sixth')
        through(record)
      }
    })
    await world.committedIs('s', ids[9])
    expect(batches).toEqual([
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
      [5, 6, 7, 8, 9],
    ])
    expect(await seen(started, 'retry')).toMatchObject({ recordId: ids[5], attempt: 1 })
  })

  test('is committed while the batch goes on', async () => {
    let release = (): void => undefined
    const ids = await world.fill('s', 3, { assign: false })
    world.start('a', {
      ...FILLED,
      batchSize: 3,
      processBatch: async (records, { through }) => {
        through(records[1] as StreamRecord)
        await new Promise<void>((resolve) => {
          release = resolve
        })
      },
    })
    await world.assign('s')
    await world.committedIs('s', ids[1])
    release()
    await world.committedIs('s', ids[2])
  })

  test('is kept when the worker closes and the handler does not come to an end', async () => {
    const ids = await world.fill('s', 4, { assign: false })
    const { worker } = world.start('a', {
      ...FILLED,
      batchSize: 4,
      drainMs: 0,
      commitIntervalMs: 60_000,
      processBatch: async (records, { signal, through }) => {
        through(records[0] as StreamRecord)
        through(records[0] as StreamRecord)
        through(records[2] as StreamRecord)
        void worker.close()
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
      },
    })
    await world.assign('s')
    await world.committedIs('s', ids[2])
  })

  test('refuses records of others, and a call that is over', async () => {
    const problems: unknown[] = []
    let late: (record: StreamRecord) => void = () => undefined
    let record: StreamRecord | undefined
    const { ids } = await workInBatches((records, through) => {
      late = through
      record = records[0] as StreamRecord
      try {
        through({ id: '1-0' } as StreamRecord)
      } catch (error) {
        problems.push((error as WorkerError).code)
      }
    })
    await world.committedIs('s', ids[9])
    expect(problems).toEqual(['BATCH_INVALID'])
    expect(() => late(record as StreamRecord)).toThrow(expect.objectContaining({ code: 'ATTEMPT_OVER' }))
  })

  test('waits for nothing: it is refused while a transaction is under way', async () => {
    const codes: unknown[] = []
    const ids = await world.fill('s', 3, { assign: false })
    world.start('a', {
      ...FILLED,
      batchSize: 3,
      processBatch: async (records, { through, transaction }) => {
        const [first, second, third] = records as [StreamRecord, StreamRecord, StreamRecord]
        const done = transaction(first, (multi) => multi.incr('sum'))
        try {
          through(second)
        } catch (error) {
          codes.push((error as WorkerError).code)
        }
        await done
        through(second)
        await transaction(third, (multi) => multi.incr('sum'))
      },
    })
    await world.assign('s')
    await world.committedIs('s', ids[2])
    expect([codes, await world.redis.get('sum')]).toEqual([['BATCH_INVALID'], '2'])
  })
})
