import { messageOf } from '@redis-stream-client/client/internal'
import { hostileValues } from '@redis-stream-client/test/support/hostile-values'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { describeError } from '../src/error-text.js'

describe('errors', () => {
  test('keep the text of an error short and storable', () => {
    expect(describeError(new TypeError('x'.repeat(5000)))).toHaveLength(1000)
    expect(describeError('\ud800')).toBe('\ufffd')
  })

  test('keep at most 1000 bytes of an error, and only whole characters', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }), fc.nat(3), (text, filler) => {
        const whole = 'x'.repeat(filler) + text.repeat(1000)
        const kept = describeError(whole)
        expect(Buffer.byteLength(kept)).toBeLessThanOrEqual(1000)
        expect(Buffer.byteLength(kept)).toBeGreaterThan(1000 - 4)
        expect(whole.startsWith(kept)).toBe(true)
      }),
    )
    expect(describeError('€'.repeat(1000))).toBe('€'.repeat(333))
  })

  test.each(hostileValues)('keep some text of %s', (_, thrown) => {
    expect(describeError(thrown)).toEqual(expect.any(String))
    expect(messageOf(thrown)).toEqual(expect.any(String))
  })
})
