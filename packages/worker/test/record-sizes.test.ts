import type { RawRecord } from '@redis-stream-client/handling'
import { describe, expect, test } from 'vitest'
import type { ReadTarget } from '../src/reading/named-streams.js'
import { RecordSizes } from '../src/reading/record-sizes.js'

const GREATEST = 1_000_000

const target = (name: string): ReadTarget => ({
  name,
  readPosition: '0-0',
  isHungry: true,
  isEmpty: true,
  accept: () => undefined,
})

const records = (...bytes: number[]): RawRecord[] => bytes.map((each) => ['1-0', [Buffer.alloc(each)]])

describe('the sizes of records', () => {
  test('are expected to be those of the other streams until the first was seen', () => {
    const sizes = new RecordSizes(GREATEST)
    const [a, b] = [target('a'), target('b')]
    const first = sizes.expectedBytes(a)
    for (let reads = 0; reads < 20; reads++) {
      sizes.hearAnswer()
      sizes.hear(a, records(1000, 100), 2)
    }
    expect(sizes.expectedBytes(a)).toBeLessThan(1200)
    expect(sizes.expectedBytes(b)).toBeLessThan(1200)
    expect(first).toBeGreaterThan(100_000)
  })

  test('are expected to stay large for a while, and never more than what is read alone', () => {
    const sizes = new RecordSizes(GREATEST)
    const a = target('a')
    sizes.hear(a, records(600_000), 1)
    sizes.hear(a, records(10), 1)
    expect(sizes.expectedBytes(a)).toBeGreaterThan(300_000)
    sizes.hear(a, records(5_000_000), 1)
    expect(sizes.expectedBytes(a)).toBe(GREATEST)
    expect(sizes.totalBytes([a, target('b')])).toBe(2 * GREATEST)
  })

  test('are taken for larger after a failure', () => {
    const sizes = new RecordSizes(GREATEST)
    const a = target('a')
    for (let reads = 0; reads < 20; reads++) sizes.hear(a, records(1000), 2)
    const before = sizes.expectedBytes(a)
    sizes.fail([a])
    expect(sizes.expectedBytes(a)).toBe(2 * before)
    sizes.failLarge([a])
    expect(sizes.expectedBytes(a)).toBe(GREATEST)
    expect(sizes.expectedBytes(target('b'))).toBe(GREATEST)
  })
})

describe('the streams that may have more', () => {
  test('are those of which as many records came as were asked for, the one read last at the end', () => {
    const sizes = new RecordSizes(GREATEST)
    const [a, b, c] = [target('a'), target('b'), target('c')]
    for (const each of [a, b, c]) sizes.add(each)
    sizes.hear(a, records(1, 1), 2)
    sizes.hear(b, records(1), 2)
    expect([...sizes.backlog]).toEqual([c, a])
    sizes.hearNothing(c)
    expect([...sizes.backlog]).toEqual([a])
    sizes.remove(a)
    expect([...sizes.backlog]).toEqual([])
    sizes.fail([b])
    expect([...sizes.backlog]).toEqual([b])
  })
})
