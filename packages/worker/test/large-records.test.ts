/** Large records: what is read, kept and waited for is bounded in bytes, and a slow link is no reason to give up. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { World } from './support/world.js'

const MIB = 1024 * 1024
/** 100 Mbit/s. */
const SLOW_LINK = 12_500_000

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

async function fillLarge(stream: string, records: number, bytes: number): Promise<void> {
  const data = Buffer.alloc(bytes, 0xfe)
  for (let n = 0; n < records; n++) await world.redis.xadd(stream, '*', 'n', n, 'data', data)
}

/** Counts the records of each stream that were handled. */
class Counts {
  readonly of = new Map<string, number>()
  total = 0

  add(stream: string): void {
    this.of.set(stream, (this.of.get(stream) ?? 0) + 1)
    this.total++
  }

  async reach(total: number, timeoutMs: number): Promise<void> {
    await eventually(
      `${total} records`,
      () => this.total,
      (seen) => seen >= total,
      { timeoutMs },
    )
  }
}

describe('over a link of 100 Mbit/s', () => {
  test('a hundred records of a mebibyte are handled, and no connection is given up', async () => {
    await fillLarge('s', 100, MIB)
    await world.assign('s')
    const { proxy, redis } = await world.proxied()
    proxy.throttle(SLOW_LINK)
    const counts = new Counts()
    const { worker } = world.start(
      'a',
      { process: ({ dataStreamName }) => counts.add(dataStreamName) },
      redis,
    )
    await counts.reach(100, 60_000)
    expect(counts.total).toBe(100)
    expect(worker.health().connectionProblems).toEqual([])
  }, 90_000)
})

describe('what is read and not handled', () => {
  test.each([
    ['by default', {}, 64 * MIB],
    ['with a smaller budget', { maxBufferedBytes: 8 * MIB }, 8 * MIB],
  ])(
    'stays within its budget of bytes %s, however much waits',
    async (_, options, budget) => {
      const streams = Array.from({ length: 40 }, (_, n) => `s${n}`)
      for (const stream of streams) {
        await fillLarge(stream, 12, 256 * 1024)
        await world.assign(stream)
      }
      const counts = new Counts()
      let letGo!: () => void
      const free = new Promise<void>((resolve) => {
        letGo = resolve
      })
      const { worker } = world.start('a', {
        ...options,
        process: async ({ dataStreamName }) => {
          await free
          counts.add(dataStreamName)
        },
      })
      const held: number[] = []
      const hold = async (): Promise<boolean> => {
        held.push((await worker.status()).bufferedBytes)
        return held.length > 2 && held.at(-1) === held.at(-3) && (held.at(-1) as number) > budget / 4
      }
      await eventually('nothing more is read', hold, Boolean, { timeoutMs: 60_000, everyMs: 200 })
      expect(Math.max(...held)).toBeLessThanOrEqual(budget)
      letGo()
      await counts.reach(40 * 12, 60_000)
      expect([...counts.of.values()]).toEqual(streams.map(() => 12))
    },
    90_000,
  )

  test('is one record, though it is larger than the budget, and the others have their turn', async () => {
    await fillLarge('large', 2, 4 * MIB)
    for (let n = 0; n < 50; n++) await world.redis.xadd('small', '*', 'n', n)
    await world.assign('large')
    await world.assign('small')
    const counts = new Counts()
    world.start('a', {
      maxBufferedBytes: MIB,
      process: ({ dataStreamName }) => counts.add(dataStreamName),
    })
    await counts.reach(52, 30_000)
    expect(Object.fromEntries(counts.of)).toEqual({ large: 2, small: 50 })
  })
})

test('records that become large all of a sudden are not waited for all at once', async () => {
  const { proxy, redis } = await world.proxied()
  const small = 500
  const large = 40
  await world.fill('s', small)
  let total = 0
  let largestBatch = 0
  world.start(
    'a',
    {
      processBatch: (records) => {
        total += records.length
        const ofThem = records.filter((record) => 'data' in record.fields)
        largestBatch = Math.max(largestBatch, ofThem.length)
      },
    },
    redis,
  )
  await eventually('the small ones are handled', () => total === small)
  // What is read next is expected to be small as well.
  proxy.freeze()
  await fillLarge('s', large, MIB)
  proxy.throttle(SLOW_LINK)
  proxy.thaw()
  await eventually(
    'the large ones are handled',
    () => total,
    (seen) => seen === small + large,
    { timeoutMs: 60_000 },
  )
  expect(largestBatch).toBeGreaterThan(0)
  expect(largestBatch).toBeLessThanOrEqual(5)
}, 90_000)
