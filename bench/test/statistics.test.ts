import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { quantile, spread, summarize } from '../src/statistics.js'

describe('statistics', () => {
  it('takes for a quantile a value that was measured', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ noNaN: true }), { minLength: 1 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (samples, share) => {
          const sorted = [...samples].sort((a, b) => a - b)
          const value = quantile(sorted, share)
          expect(sorted).toContain(value)
          const below = sorted.filter((sample) => sample <= value).length
          expect(below / sorted.length).toBeGreaterThanOrEqual(share)
        },
      ),
    )
  })

  it('has no quantile of nothing', () => {
    expect(quantile([], 0.5)).toBeNaN()
  })

  it('summarizes in whatever order the samples come', () => {
    const samples = Array.from({ length: 200 }, (_, index) => 200 - index)
    expect(summarize(samples)).toEqual({ samples: 200, median: 100, p99: 198, max: 200 })
  })

  it('takes the greatest of a few for p99', () => {
    expect(summarize([3, 1, 2]).p99).toBe(3)
  })

  it('calls equal shares even, and one that has all as uneven as there are sharers', () => {
    expect(spread([5, 5, 5])).toBe(1)
    expect(spread([30, 0, 0])).toBe(3)
  })
})
