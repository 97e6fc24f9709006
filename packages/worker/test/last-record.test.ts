/** The last record of a stream: whatever becomes of it, the stream ends. */

import type { StreamRecord } from '@redis-stream-client/handling'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { NonRetryableError } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { RecordContext } from '../src/contract/record-context.js'
import { Handled, seen, World } from './support/world.js'

const QUICK = { attempts: 2, initialDelayMs: 5, maxDelayMs: 5, jitter: 0 }
const isLast = ({ fields }: StreamRecord): boolean => fields['n'] === '2'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

/** Promises that tests hold back, so that handlers end when the test wants them to. */
function gate(): { open: () => void; opened: Promise<void> } {
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}

async function expectFinished(): Promise<void> {
  await eventually(
    'the assignment is closed',
    async () => (await world.redis.hexists('orders-locks', 's')) === 0,
  )
  expect(await world.redis.xlen('orders-input')).toBe(0)
}

describe('isLast that throws', () => {
  test.each(['process', 'processBatch'] as const)(
    'fails its record and no other, and is asked about those that follow (%s)',
    async (mode) => {
      const ids = await world.fill('s', 3)
      const handled = new Handled()
      const handle = (records: readonly StreamRecord[]): void => {
        for (const { id } of records) handled.note('s', id)
      }
      const started = world.start('a', {
        retry: QUICK,
        isLast: (record) => {
          if (record.id === ids[1]) throw new Error('cannot say')
          return isLast(record)
        },
        ...(mode === 'process'
          ? { process: (record: StreamRecord) => handle([record]) }
          : { processBatch: handle }),
      })
      expect(await seen(started, 'streamEnded')).toMatchObject({ how: 'finished', position: ids[2] })
      expect(handled.of('s')).toEqual([ids[0], ids[2]])
      const [letter, ...others] = await started.worker.deadLetters.list()
      expect(letter).toMatchObject({ recordId: ids[1], attempts: 2, error: 'Error: cannot say' })
      expect(others).toEqual([])
    },
  )

  test('once costs the record an attempt, and the stream still ends', async () => {
    const ids = await world.fill('s', 3)
    const attempts: number[] = []
    let hasThrown = false
    const started = world.start('a', {
      retry: QUICK,
      isLast: (record) => {
        if (isLast(record) && !hasThrown) {
          hasThrown = true
          throw new Error('not yet')
        }
        return isLast(record)
      },
      process: (_, { attempt }) => void attempts.push(attempt),
    })
    expect(await seen(started, 'streamEnded')).toMatchObject({ how: 'finished', position: ids[2] })
    expect(attempts).toEqual([1, 1, 2])
  })

  test('or answers a promise is refused, and the promise may be rejected', async () => {
    await world.fill('s', 1)
    const started = world.start('a', {
      retry: QUICK,
      isLast: (async () => {
        throw new Error('nobody waits for this')
      }) as never,
      process: () => undefined,
    })
    expect(await seen(started, 'deadLetter')).toMatchObject({
      error: { code: 'OPTION_INVALID', message: 'option isLast must answer true or false, got a promise' },
    })
  })
})

describe('a last record that goes to the dead letters', () => {
  const saysDone = (record: StreamRecord, { done }: RecordContext): never => {
    if (isLast(record)) done()
    throw new NonRetryableError('ill')
  }
  const failsLast = (): never => {
    throw new NonRetryableError('ill')
  }

  test.each([
    ['isLast', { isLast, process: failsLast }],
    ['done', { process: saysDone }],
    ['isLast, in a batch', { isLast, processBatch: failsLast }],
  ])('ends the stream (%s)', async (_, options) => {
    const ids = await world.fill('s', 3)
    const started = world.start('a', options)
    expect(await seen(started, 'streamEnded')).toMatchObject({ how: 'finished', position: ids[2] })
    expect((await started.worker.deadLetters.list()).map(({ recordId }) => recordId)).toEqual(ids)
    await expectFinished()
  })

  test.each([
    ['isLast', { isLast, process: failsLast }],
    ['done', { process: saysDone }],
  ])('ends the stream when it is skipped after a halt, also by the next owner (%s)', async (_, handlers) => {
    const [id] = await world.fill('s', 1, { first: 2 })
    const options = { ...handlers, onExhausted: 'halt' as const }
    const a = world.start('a', options)
    await seen(a, 'streamHalted')
    await a.worker.close()
    const b = world.start('b', options)
    await seen(b, 'streamHalted')
    await b.worker.resume('s', { skip: true })
    expect(await seen(b, 'streamEnded')).toMatchObject({ how: 'finished', position: id })
    await expectFinished()
  })
})

describe('a last record that is done with', () => {
  const commit = async (record: StreamRecord, { transaction }: RecordContext): Promise<void> => {
    await transaction(record, (multi) => multi.incr('count'))
  }

  test.each([
    ['isLast', { isLast, begin: commit }],
    [
      'done before',
      {
        begin: async (record: StreamRecord, context: RecordContext) => {
          context.done()
          await commit(record, context)
        },
      },
    ],
    [
      'done after',
      {
        begin: async (record: StreamRecord, context: RecordContext) => {
          await commit(record, context)
          context.done()
        },
      },
    ],
    [
      'done meanwhile',
      {
        begin: async (record: StreamRecord, context: RecordContext) => {
          const committing = commit(record, context)
          context.done()
          await committing
        },
      },
    ],
  ])(
    'by a transaction ends the stream, though its owner is lost before the handler ends (%s)',
    async (_, how) => {
      const { begin, ...options } = how
      await world.fill('s', 1, { first: 2 })
      const { open, opened } = gate()
      const started = world.start('a', {
        ...options,
        process: async (record, context) => {
          await begin(record, context)
          await opened
          throw new Error('its owner is lost')
        },
      })
      await eventually('the end is committed', async () =>
        String(await world.redis.hget('orders-checkpoints', 's')).includes('finished'),
      )
      await world.redis.del('orders-heartbeat:redis-consumer-a')
      await seen(started, 'streamEnded', ({ how: end }) => end === 'lost')
      open()
      await seen(started, 'streamEnded', ({ how: end }) => end === 'finished')
      await expectFinished()
      expect(await world.redis.get('count')).toBe('1')
    },
  )

  test.each([
    ['isLast', false],
    ['done', true],
  ])('by a transaction is committed as the last one in the same step (%s)', async (_, saysDone) => {
    await world.fill('s', 1, { first: 2 })
    let committed = ''
    const started = world.start('a', {
      commitIntervalMs: 60_000,
      ...(saysDone ? {} : { isLast }),
      process: async (record, context) => {
        if (saysDone) context.done()
        await commit(record, context)
        committed = String(await world.redis.hget('orders-checkpoints', 's'))
      },
    })
    await seen(started, 'streamEnded')
    expect(committed).toContain('finished')
  })

  test('while the worker closes is the last one for the next owner, too', async () => {
    const [id] = await world.fill('s', 1, { first: 2 })
    const { open, opened } = gate()
    const handled = new Handled()
    const a = world.start('a', {
      drainMs: 10_000,
      isLast,
      process: async (record) => {
        handled.note('s', record.id)
        await opened
      },
    })
    await handled.has('s', 1)
    const closing = a.worker.close()
    await eventually('the stream is asked for', async () => {
      const { streams } = await a.worker.status()
      return streams[0]?.state === 'ending'
    })
    open()
    await closing
    expect(await seen(a, 'streamEnded')).toMatchObject({ how: 'released', position: id })
    const b = world.start('b', { isLast, process: (record) => handled.note('s', record.id) })
    expect(await seen(b, 'streamEnded')).toMatchObject({ how: 'finished', position: id })
    expect(handled.of('s')).toEqual([id])
    await expectFinished()
  })
})
