import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { afterPosition, comparePositions, positionTimeMs } from '../src/stream-position.js'

const position = fc
  .tuple(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 2n))
  .map(([ms, seq]) => `${ms}-${seq}`)

describe('positions', () => {
  test('are ordered as Redis orders ids', () => {
    const key = (id: string): bigint => {
      const [ms, seq] = id.split('-').map(BigInt) as [bigint, bigint]
      return ms * 2n ** 64n + seq
    }
    fc.assert(
      fc.property(position, position, (a, b) => {
        const expected = key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0
        expect(Math.sign(comparePositions(a, b))).toBe(expected)
        expect(key(afterPosition(a))).toBe(key(a) + 1n)
      }),
    )
    expect(positionTimeMs('1732228800000-5')).toBe(1732228800000)
  })
})
