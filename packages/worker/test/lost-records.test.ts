/** Records that are gone before they were read, and streams that begin anew: what the worker says about them. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { NonRetryableError, RecordProducer, type WorkerMetricsRecorder } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { StreamRun } from '../src/progress/stream-run.js'
import type { StreamLook } from '../src/redis/stream-look.js'
import { LostRecords } from '../src/watching/lost-records.js'
import { Handled, type Running, type SeenEvent, seen, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

const FINDINGS = ['recordsLost', 'streamReset']

function findings({ events }: Running): SeenEvent[] {
  return events.filter(({ event }) => FINDINGS.includes(event))
}

/** Adds records in one step, so that nobody can read one before all are there. */
async function addAtOnce(
  stream: string,
  ids: readonly string[],
  ...options: (string | number)[]
): Promise<void> {
  const multi = world.redis.multi()
  for (const id of ids) multi.xadd(stream, ...options, id, 'a', 'b')
  await multi.exec()
}

function range(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, n) => `${first + n}-0`)
}

describe('records that were trimmed before they were read', () => {
  test('while nobody owned the stream are told of once, before the next one is handled', async () => {
    await addAtOnce('s', range(1, 10))
    await world.assign('s')
    const handled = new Handled()
    const first = world.start('a', { process: ({ id }) => handled.note('s', id) })
    await handled.has('s', 10)
    await first.worker.close()
    await addAtOnce('s', range(11, 1000), 'MAXLEN', 20)
    const metrics: Parameters<NonNullable<WorkerMetricsRecorder['recordsLost']>>[0][] = []
    const counted: number[] = []
    const second = world.start('b', {
      process: ({ id }) => {
        counted.push(metrics.length)
        handled.note('s', id)
      },
      metrics: { recordsLost: (event) => metrics.push(event) },
    })
    expect((await handled.has('s', 30)).slice(10)).toEqual(range(981, 1000))
    expect(new Set(counted)).toEqual(new Set([1]))
    expect(metrics).toEqual([{ records: 970 }])
    expect(findings(second)).toEqual([
      { event: 'recordsLost', dataStreamName: 's', position: '10-0', records: 970 },
    ])
    await second.worker.close()
    const third = world.start('c', { process: ({ id }) => handled.note('s', id) })
    await addAtOnce('s', ['1001-0'])
    await handled.has('s', 31)
    expect(findings(third)).toEqual([])
  })

  test('while a handler was busy are told of as soon as somebody looks', async () => {
    await addAtOnce('s', range(1, 3))
    await world.assign('s')
    let open = (): void => undefined
    const gate = new Promise<void>((resolve) => {
      open = resolve
    })
    const handled = new Handled()
    const running = world.start('a', {
      process: async ({ id }) => {
        await gate
        handled.note('s', id)
      },
    })
    const buffered = async (): Promise<number> => (await running.worker.status()).streams[0]?.buffered ?? 0
    await eventually('three are read', buffered, (count) => count === 3)
    await addAtOnce('s', range(4, 53), 'MAXLEN', 10)
    await eventually('the others are read', buffered, (count) => count === 13)
    open()
    expect(await seen(running, 'recordsLost')).toMatchObject({ records: 40, dataStreamName: 's' })
    expect(await handled.has('s', 13)).toEqual([...range(1, 3), ...range(44, 53)])
    expect((await running.worker.status()).streams[0]?.lag?.records).toBe(0)
    expect(findings(running)).toHaveLength(1)
  })

  test('are told of within seconds where nobody asks', async () => {
    await addAtOnce('s', range(1, 3))
    await world.assign('s')
    const handled = new Handled()
    const running = world.start('a', {
      lagIntervalMs: 3_600_000,
      process: ({ id }) => handled.note('s', id),
    })
    await handled.has('s', 3)
    await addAtOnce('s', range(4, 53), 'MAXLEN', 10)
    expect(await seen(running, 'recordsLost')).toMatchObject({ records: 40 })
  })

  test('before the stream had its first owner are told of too', async () => {
    await addAtOnce('s', range(1, 100), 'MAXLEN', 30)
    await world.assign('s')
    const running = world.start('a', { process: () => undefined })
    expect(await seen(running, 'recordsLost')).toMatchObject({ position: '0-0', records: 70 })
  })

  test('are not those that were trimmed or deleted after they were handled', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { maxLen: 20 })
    const handled = new Handled()
    let failures = 0
    const options = {
      trim: 'committed',
      commitEvery: 7,
      lagIntervalMs: 10,
      retry: { attempts: 1 },
      process: async (record: { id: string; fields: Readonly<Record<string, string>> }) => {
        handled.note('s', record.id)
        if (record.fields['n'] === '50' && ++failures > 0) throw new Error('poison')
        if (handled.of('s').length % 5 === 0) await world.redis.xdel('s', record.id)
      },
    } as const
    const add = async (first: number, last: number): Promise<void> => {
      for (let n = first; n < last; n += 10) {
        await producer.addMany(
          's',
          Array.from({ length: 10 }, (_, i) => ({ fields: { n: n + i } })),
        )
      }
    }
    const first = world.start('a', options)
    await add(0, 300)
    await handled.has('s', 300)
    await first.worker.close()
    const second = world.start('b', options)
    await add(300, 600)
    await handled.has('s', 600)
    await second.worker.status()
    expect([...findings(first), ...findings(second)]).toEqual([])
    expect(failures).toBe(1)
  })

  test('are not a record that was skipped when a halted stream was resumed', async () => {
    await addAtOnce('s', range(1, 5))
    await world.assign('s')
    const handled = new Handled()
    const running = world.start('a', {
      onExhausted: 'halt',
      retry: { attempts: 1 },
      process: ({ id }) => {
        if (id === '3-0') throw new Error('poison')
        handled.note('s', id)
      },
    })
    await seen(running, 'streamHalted')
    await running.worker.resume('s', { skip: true })
    await handled.has('s', 4)
    await running.worker.status()
    await running.worker.close()
    expect(JSON.parse((await world.redis.hget('orders-checkpoints', 's')) as string)).toMatchObject({ n: 5 })
    expect(findings(running)).toEqual([])
  })

  test('are not those that a transaction or a dead letter has passed', async () => {
    await addAtOnce('s', range(1, 5))
    await world.assign('s')
    world.start('a', {
      commitEvery: 1,
      process: async (record, { transaction }) => {
        if (record.id === '3-0' || record.id === '5-0') throw new NonRetryableError('poison')
        await transaction(record, (multi) => multi.incr('done'))
        if (record.id !== '2-0' && record.id !== '4-0') return
        const checkpoint = JSON.parse((await world.redis.hget('orders-checkpoints', 's')) as string) as object
        expect(checkpoint).toEqual({ id: record.id, n: Number.parseInt(record.id, 10) })
      },
    })
    await world.committedIs('s', '5-0')
    expect(JSON.parse((await world.redis.hget('orders-checkpoints', 's')) as string)).toEqual({
      id: '5-0',
      n: 5,
    })
    expect(await world.redis.xlen('orders-dead-records')).toBe(2)
  })

  test('are not known of a checkpoint that has no count, which is counted from then on', async () => {
    await addAtOnce('s', range(1, 100), 'MAXLEN', 30)
    await world.redis.hset('orders-checkpoints', 's', '90-0')
    await world.assign('s')
    const handled = new Handled()
    const first = world.start('a', { process: ({ id }) => handled.note('s', id) })
    await handled.has('s', 10)
    await first.worker.close()
    await addAtOnce('s', range(101, 110), 'MAXLEN', 3)
    const second = world.start('b', { process: ({ id }) => handled.note('s', id) })
    expect(await seen(second, 'recordsLost')).toMatchObject({ records: 7 })
    expect(findings(first)).toEqual([])
  })
})

describe('a stream that was deleted and begun anew', () => {
  test.each([
    ['behind the position is reported, and goes on when its ids are greater', range(1, 5), true],
    ['after the position is reported and worked on', range(201, 205), false],
  ])('with ids %s', async (_, ids, isBehind) => {
    await addAtOnce('s', range(101, 110))
    await world.assign('s')
    const handled = new Handled()
    const lines: string[] = []
    const running = world.start('a', {
      process: ({ id }) => handled.note('s', id),
      metrics: { streamReset: (event) => lines.push(JSON.stringify(event)) },
    })
    await handled.has('s', 10)
    await world.redis.del('s')
    await addAtOnce('s', ids)
    if (!isBehind) await handled.has('s', 15)
    await running.worker.status()
    await running.worker.status()
    const lastId = ids.at(-1) as string
    const position = isBehind ? '110-0' : lastId
    const found = { event: 'streamReset', dataStreamName: 's', position, lastId, isBehind }
    expect(findings(running)).toEqual([found])
    expect(lines).toEqual([JSON.stringify({ isBehind })])
    await addAtOnce('s', ['300-0'])
    await handled.has('s', isBehind ? 11 : 16)
    expect(handled.of('s').at(-1)).toBe('300-0')
  })
})

describe('a look that has taken its time', () => {
  /** A run as LostRecords sees it. */
  class Fake {
    readonly state = 'active'
    readonly name = 's'
    readPosition = '10-0'
    handled = 0
    buffer = { length: 0 }
    progress = {
      accounted: 10 as number | null,
      account: (records: number | null): void => {
        this.progress.accounted = records
      },
    }
  }

  const look = (added: number, counted: number): StreamLook => ({
    length: counted,
    firstId: null,
    lastId: null,
    greatestId: '99-0',
    added,
    counted,
    isComplete: true,
  })

  function watch(): { lost: number[]; records: LostRecords; fake: Fake; run: StreamRun } {
    const lost: number[] = []
    const nothing = (): void => undefined
    const records = new LostRecords({
      recorder: { recordsLost: (event: { records: number }) => lost.push(event.records) } as never,
      logger: { debug: nothing, info: nothing, warn: nothing, error: nothing },
      emit: nothing,
    })
    const fake = new Fake()
    return { lost, records, fake, run: fake as unknown as StreamRun }
  }

  test('takes nothing for lost that was read and removed meanwhile', () => {
    const { fake, lost, records, run } = watch()
    const mark = records.mark(run)
    Object.assign(fake, { readPosition: '15-0', handled: 5 })
    fake.progress.account(15)
    records.check(mark, look(15, 0)) // five that lay behind the mark are gone
    records.check(records.mark(run), look(15, 0))
    expect(lost).toEqual([])
  })

  test('is believed when the next one says the same', () => {
    const { fake, lost, records, run } = watch()
    for (const readPosition of ['15-0', '16-0', '17-0', '18-0']) {
      const mark = records.mark(run)
      fake.readPosition = readPosition
      records.check(mark, look(17, 0))
    }
    expect(lost).toEqual([7])
    expect(fake.progress.accounted).toBe(17)
  })

  test('says nothing twice when two were under way at once', () => {
    const { lost, records, run } = watch()
    const marks = [records.mark(run), records.mark(run)]
    for (const mark of marks) records.check(mark, look(13, 0))
    expect(lost).toEqual([3])
  })

  test('finds nothing on a server that does not count', () => {
    const { fake, lost, records, run } = watch()
    records.check(records.mark(run), { ...look(13, 0), added: null })
    expect(lost).toEqual([])
    expect(fake.progress.accounted).toBeNull()
  })
})
