/** How much is asked for, and sent, at a time. */
import { describe, expect, it } from 'vitest'
import { BatchSize } from '../src/decisions/batch-size.js'
import { BATCH_BYTES, batchesOf } from '../src/decisions/batches.js'
import { PacedCount } from '../src/decisions/paced-count.js'

const KIB = 1024
const LIMIT = 1024 * KIB

/** What is asked for, one request after the other, of entries with so many bytes each. */
function countsOf(size: BatchSize, most: number, sizes: readonly number[]): number[] {
  return sizes.map((bytes) => {
    const count = size.count(most)
    size.hear(Array.from({ length: count }, () => bytes))
    return count
  })
}

describe('the number of entries to read', () => {
  it('begins with one and doubles while they are small', () => {
    expect(countsOf(new BatchSize(LIMIT), 50, Array(8).fill(100))).toEqual([1, 2, 4, 8, 16, 32, 50, 50])
  })

  it('is one while each is as large as the limit, or larger', () => {
    expect(countsOf(new BatchSize(LIMIT), 50, Array(4).fill(LIMIT))).toEqual([1, 1, 1, 1])
    expect(countsOf(new BatchSize(LIMIT), 50, Array(4).fill(30 * LIMIT))).toEqual([1, 1, 1, 1])
  })

  it('keeps what is expected within the limit', () => {
    const counts = countsOf(new BatchSize(LIMIT), 50, Array(9).fill(100 * KIB))
    expect(counts).toEqual([1, 2, 4, 8, 10, 10, 10, 10, 10])
  })

  it('stays small for a while after a large one', () => {
    const size = new BatchSize(LIMIT)
    countsOf(size, 50, Array(8).fill(100))
    size.hear([100, 4 * LIMIT, 100])
    expect(countsOf(size, 50, Array(8).fill(100))).toEqual([1, 1, 1, 2, 4, 8, 16, 32])
  })

  it('is halved by each failure, down to one, and grows again', () => {
    const size = new BatchSize(LIMIT)
    countsOf(size, 50, Array(8).fill(100))
    const counts = Array.from({ length: 8 }, () => {
      const count = size.count(50)
      size.fail(count)
      return count
    })
    expect(counts).toEqual([50, 25, 12, 6, 3, 1, 1, 1])
    expect(countsOf(size, 50, [100, 100])).toEqual([1, 2])
  })

  it('begins anew when there was nothing to read', () => {
    const size = new BatchSize(LIMIT)
    countsOf(size, 50, Array(8).fill(100))
    size.reset()
    expect(size.count(50)).toBe(1)
  })

  it('never goes beyond what is wanted', () => {
    const size = new BatchSize(LIMIT, 100)
    expect(size.count(7)).toBe(7)
  })
})

describe('batches', () => {
  const lengths = (sizes: readonly number[], limit = 50) =>
    [...batchesOf(sizes, limit, (bytes) => bytes)].map((batch) => batch.length)

  it('hold as many as the limit says while they are small', () => {
    expect(lengths(Array(120).fill(10))).toEqual([50, 50, 20])
    expect(lengths([])).toEqual([])
  })

  it('hold no more bytes than allowed, and at least one item', () => {
    expect(lengths(Array(9).fill(BATCH_BYTES / 4))).toEqual([4, 4, 1])
    expect(lengths([2 * BATCH_BYTES, 1, BATCH_BYTES, 1])).toEqual([1, 1, 1, 1])
  })

  it('keep every item, in its order', () => {
    const items = Array.from({ length: 500 }, (_, index) => (index * 7919) % BATCH_BYTES)
    expect([...batchesOf(items, 50, (bytes) => bytes)].flat()).toEqual(items)
  })
})

describe('the number of entries to take over at once', () => {
  it('is halved by answers that take long, down to a few, and grows again when they come soon', () => {
    const paced = new PacedCount(50, 400)
    const counts = (ms: readonly number[]): number[] =>
      ms.map((each) => {
        paced.hear(each)
        return paced.count
      })
    expect(paced.count).toBe(50)
    expect(counts([401, 500, 1000, 5000, 5000])).toEqual([25, 12, 6, 5, 5])
    expect(counts([400, 200])).toEqual([5, 5])
    expect(counts([199, 100, 10, 1, 1])).toEqual([10, 20, 40, 50, 50])
  })
})
