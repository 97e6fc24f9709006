import { describe, expect, it } from 'vitest'
import { type Figure, type Limit, ratioToOurs, verdictOf } from '../src/figure.js'

const FIGURE: Figure = {
  scenario: 'takeover',
  what: 'time',
  peer: 'ours',
  differs: '',
  unit: 'ms',
  better: 'lower',
  samples: 3,
  median: 10,
  p99: 20,
  max: 20,
}

function withBudget(budget: Limit, figure: Partial<Figure> = {}): Figure {
  return { ...FIGURE, ...figure, budget }
}

describe('a budget', () => {
  it('is kept up to its limit and broken beyond it', () => {
    expect(verdictOf(withBudget({ statistic: 'p99', bound: 'at most', limit: 20 }))).toBe('kept')
    expect(verdictOf(withBudget({ statistic: 'p99', bound: 'at most', limit: 19.9 }))).toBe('broken')
  })

  it('looks at the statistic it names', () => {
    expect(verdictOf(withBudget({ statistic: 'median', bound: 'at most', limit: 15 }))).toBe('kept')
    expect(verdictOf(withBudget({ statistic: 'max', bound: 'at most', limit: 15 }))).toBe('broken')
  })

  it('may ask for a least', () => {
    expect(verdictOf(withBudget({ statistic: 'median', bound: 'at least', limit: 10 }))).toBe('kept')
    expect(verdictOf(withBudget({ statistic: 'median', bound: 'at least', limit: 10.1 }))).toBe('broken')
  })

  it('is not kept by what could not be measured', () => {
    const budget = { statistic: 'median', bound: 'at most', limit: 1 } as const
    expect(verdictOf(withBudget(budget, { median: Number.NaN }))).toBe('broken')
    const read = JSON.parse(JSON.stringify(withBudget(budget, { median: Number.NaN }))) as Figure
    expect(verdictOf(read)).toBe('broken')
  })

  it('is not kept by a measurement that failed, nor by one without a budget', () => {
    const budget = { statistic: 'median', bound: 'at most', limit: 1 } as const
    expect(verdictOf(withBudget(budget, { median: 0, failure: 'no server' }))).toBe('failed')
    expect(verdictOf({ ...FIGURE, failure: 'no server' })).toBe('failed')
  })

  it('is missing where there is none', () => {
    expect(verdictOf(FIGURE)).toBe('none')
  })
})

describe('the ratio to ours', () => {
  const peer: Figure = { ...FIGURE, peer: 'other', median: 25 }

  it('compares the same thing of the same scenario', () => {
    expect(ratioToOurs(peer, [FIGURE, peer])).toBe(2.5)
    expect(ratioToOurs({ ...peer, what: 'space' }, [FIGURE])).toBeNull()
    expect(ratioToOurs({ ...peer, scenario: 'memory' }, [FIGURE])).toBeNull()
  })

  it('is missing for ours itself and where ours is nothing', () => {
    expect(ratioToOurs(FIGURE, [FIGURE])).toBeNull()
    expect(ratioToOurs(peer, [{ ...FIGURE, median: 0 }, peer])).toBeNull()
  })
})
