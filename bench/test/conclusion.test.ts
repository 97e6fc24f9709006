import { describe, expect, it } from 'vitest'
import { concludeFrom } from '../src/conclusion.js'
import type { Figure } from '../src/figure.js'

const KEPT: Figure = {
  scenario: 'memory',
  what: 'heap',
  peer: 'ours',
  differs: '',
  unit: 'bytes',
  better: 'lower',
  samples: 1,
  median: 300,
  p99: 300,
  max: 300,
  budget: { statistic: 'max', bound: 'at most', limit: 700 },
}
const BROKEN: Figure = { ...KEPT, what: 'heap with signals', max: 900 }
const FAILED: Figure = { ...KEPT, scenario: 'growth', what: 'the scenario', failure: 'its process ended' }

describe('the end of a run', () => {
  it('is good when every budget is kept', () => {
    expect(concludeFrom([KEPT])).toEqual({ lines: ['All 1 budgets are kept.'], isWell: true })
  })

  it('names each budget that is broken', () => {
    expect(concludeFrom([KEPT, BROKEN])).toEqual({
      lines: ['BROKEN: memory: heap with signals (ours)', '1 of 2 budgets that were measured are kept.'],
      isWell: false,
    })
  })

  it('does not say that all is kept when something was not measured because it failed', () => {
    const { isWell, lines } = concludeFrom([KEPT, FAILED])
    expect(isWell).toBe(false)
    expect(lines).toEqual([
      'FAILED: growth: the scenario (ours): its process ended',
      '1 of 1 budgets that were measured are kept; 1 measurements failed.',
    ])
  })
})
