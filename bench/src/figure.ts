/** One measured thing of one peer, and the budget it has to keep. */
import type { Peer } from './peers.js'
import type { Summary } from './statistics.js'

/** What a figure is compared with. */
export interface Limit {
  readonly statistic: 'median' | 'p99' | 'max'
  readonly bound: 'at most' | 'at least'
  readonly limit: number
}

/** What a scenario has to keep: every figure of ours whose `what` begins with this text. At least one has to be measured. */
export interface Budget extends Limit {
  readonly of: string
}

export interface Figure extends Summary {
  readonly scenario: string
  /** What was measured and under which circumstances; peers are compared where it is the same text. */
  readonly what: string
  /** `ours`, or the name of a peer and how it was set up. */
  readonly peer: Peer['name']
  /** What the peer guarantees less, or does besides. */
  readonly differs: Peer['differs']
  readonly unit: string
  /** Which of two values is the better one. */
  readonly better: 'lower' | 'higher'
  readonly budget?: Limit
  /** For plots: the number that was varied. */
  readonly x?: number
  /** Why there is no value: the measurement did not come to its end. */
  readonly failure?: string
}

export type Verdict = 'kept' | 'broken' | 'failed' | 'none'

/** A figure that could not be measured keeps no budget. */
export function verdictOf(figure: Figure): Verdict {
  const { budget, failure } = figure
  if (failure !== undefined) return 'failed'
  if (budget === undefined) return 'none'
  const value: number | null = figure[budget.statistic]
  if (!Number.isFinite(value)) return 'broken' // NaN, which is null where the figure was read from JSON
  const isKept = budget.bound === 'at most' ? value <= budget.limit : value >= budget.limit
  return isKept ? 'kept' : 'broken'
}

/** A figure by ours, median by median; null where there is nothing of ours to compare with. */
export function ratioToOurs(figure: Figure, all: readonly Figure[]): number | null {
  const ours = all.find(
    ({ peer, scenario, what }) => peer === 'ours' && scenario === figure.scenario && what === figure.what,
  )
  if (ours === undefined || ours === figure) return null
  const ratio = figure.median / ours.median
  return Number.isFinite(ratio) ? ratio : null
}
