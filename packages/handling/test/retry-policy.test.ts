import { describe, expect, test } from 'vitest'
import { NonRetryableError, RetryAfterError, retryAfter } from '../src/failures.js'
import { isExhausted, retryDelayMs } from '../src/retry-policy.js'

describe('retries', () => {
  const policy = { attempts: 4, initialDelayMs: 100, maxDelayMs: 1000, factor: 3, jitter: 0.5 }

  test('wait longer each time, up to the cap, with their share of chance', () => {
    expect([1, 2, 3, 9].map((n) => retryDelayMs(policy, n, null, 0))).toEqual([100, 300, 900, 1000])
    expect([1, 2, 3, 9].map((n) => retryDelayMs(policy, n, null, 1))).toEqual([50, 150, 450, 500])
    expect(retryDelayMs(policy, 1, retryAfter(7))).toBe(7)
    expect(retryDelayMs({ ...policy, factor: 2 }, 5000, null, 0)).toBe(1000)
  })

  test('do not believe a delay that no timer can keep', () => {
    for (const delayMs of [Number.NaN, Infinity, -1, '5']) {
      expect(retryDelayMs(policy, 1, new RetryAfterError(delayMs as number, 'later'), 0)).toBe(100)
    }
  })

  test('end after the last attempt, or when they are useless', () => {
    expect([3, 4, 5].map((n) => isExhausted(policy, n, new Error()))).toEqual([false, true, true])
    expect(isExhausted(policy, 1, new NonRetryableError('no'))).toBe(true)
    expect(() => retryAfter(-1)).toThrow(RangeError)
    expect(() => retryAfter(Number.NaN)).toThrow(RangeError)
  })
})
