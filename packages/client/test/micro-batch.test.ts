import { countKept } from '@redis-stream-client/test/support/collect-garbage'
import { describe, expect, it } from 'vitest'
import { MicroBatch } from '../src/async/micro-batch.js'
import { BATCH_BYTES } from '../src/decisions/batches.js'

describe('calls of one turn', () => {
  it('travel together, in their order, and each gets its own result', async () => {
    const sent: number[][] = []
    const batch = new MicroBatch<number, string>(50, (items) => {
      sent.push(items)
      return Promise.resolve(items.map(String))
    })
    const results = await Promise.all([batch.add(1), batch.add(2), batch.add(3)])
    expect(results).toEqual(['1', '2', '3'])
    expect(sent).toEqual([[1, 2, 3]])
  })

  it('are split at the limit, and only a few batches are under way at once', async () => {
    let underWay = 0
    let most = 0
    const sent: number[] = []
    const batch = new MicroBatch<number, number>(10, async (items) => {
      underWay++
      most = Math.max(most, underWay)
      sent.push(...items)
      expect(items.length).toBeLessThanOrEqual(10)
      await new Promise((resolve) => setImmediate(resolve))
      underWay--
      return items
    })
    const numbers = Array.from({ length: 1234 }, (_, index) => index)
    expect(await Promise.all(numbers.map((each) => batch.add(each)))).toEqual(numbers)
    expect(sent).toEqual(numbers)
    expect(most).toBe(4)
  })

  it('fail together, and the next batch goes on', async () => {
    const batch = new MicroBatch<number, number>(2, (items) =>
      items.includes(1) ? Promise.reject(new Error('refused')) : Promise.resolve(items),
    )
    const results = await Promise.allSettled([batch.add(1), batch.add(2), batch.add(3)])
    expect(results.map((each) => each.status)).toEqual(['rejected', 'rejected', 'fulfilled'])
    expect(await batch.add(4)).toBe(4)
  })

  it('are let go once they were answered, also when others come all the time', async () => {
    let release: (() => void)[] = []
    const batch = new MicroBatch<object, null>(10, async (items) => {
      await new Promise<void>((resolve) => release.push(resolve))
      return items.map(() => null)
    })
    const references: WeakRef<object>[] = []
    const add = (count: number): void => {
      for (let index = 0; index < count; index++) {
        const item = { index }
        references.push(new WeakRef(item))
        void batch.add(item)
      }
    }
    add(100)
    for (let round = 0; round < 200; round++) {
      await new Promise((resolve) => setImmediate(resolve))
      const answered = release
      release = []
      for (const answer of answered) answer()
      add(answered.length * 10) // as many as were answered: the queue is never empty
    }
    expect(references.length).toBeGreaterThan(1000)
    await expect.poll(() => countKept(references)).toBe(100)
  })

  it('carry no more bytes than one batch may while others are under way, and nobody waits for ever', async () => {
    let underWay = 0
    let most = 0
    const sent: number[][] = []
    const batch = new MicroBatch<number, number>(
      50,
      async (items) => {
        sent.push(items)
        const bytes = items.reduce((sum, each) => sum + each, 0)
        underWay += bytes
        most = Math.max(most, underWay)
        await new Promise((resolve) => setImmediate(resolve))
        underWay -= bytes
        return items
      },
      (bytes) => bytes,
    )
    const sizes = Array.from({ length: 40 }, (_, index) => (1 + (index % 4)) * 0.2 * BATCH_BYTES)
    expect(await Promise.all(sizes.map((each) => batch.add(each)))).toEqual(sizes)
    expect(sent.flat()).toEqual(sizes)
    expect(most).toBeLessThanOrEqual(BATCH_BYTES)
    expect(await batch.add(5 * BATCH_BYTES)).toBe(5 * BATCH_BYTES)
  })
})
