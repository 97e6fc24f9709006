/** One measured thing of one peer, and the budget it has to keep. */
import type { Summary } from './statistics.js'

export const OURS = 'ours'

export interface Budget {
  readonly statistic: 'median' | 'p99' | 'max'
  readonly bound: 'at most' | 'at least'
  readonly limit: number
}

export interface Figure extends Summary {
  readonly scenario: string
  /** What was measured and under which circumstances; peers are compared where it is the same text. */
  readonly what: string
  /** `ours`, or the name of a peer and how it was set up. */
  readonly peer: string
  readonly unit: string
  readonly budget?: Budget
  /** For plots: the number that was varied. */
  readonly x?: number
}

export type Verdict = 'kept' | 'broken' | 'none'

/** A figure that could not be measured (NaN) keeps no budget. */
export function verdictOf(figure: Figure): Verdict {
  const { budget } = figure
  if (budget === undefined) return 'none'
  const value = figure[budget.statistic]
  const isKept = budget.bound === 'at most' ? value <= budget.limit : value >= budget.limit
  return isKept ? 'kept' : 'broken'
}

/** A figure by ours, median by median; null where there is nothing of ours to compare with. */
export function ratioToOurs(figure: Figure, all: readonly Figure[]): number | null {
  const ours = all.find(
    ({ peer, scenario, what }) => peer === OURS && scenario === figure.scenario && what === figure.what,
  )
  if (ours === undefined || ours === figure) return null
  const ratio = figure.median / ours.median
  return Number.isFinite(ratio) ? ratio : null
}
