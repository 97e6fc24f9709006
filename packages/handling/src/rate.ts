/** How many records may begin in a time. */

/** In any `perMs` at most `records` and `burst` together begin, and in the long run `records` in each `perMs`. */
export interface Rate {
  readonly records: number
  readonly perMs: number
  /** How many may begin at once after a quiet while. Default: a tenth of `records`, at least 1. */
  readonly burst?: number | undefined
}

/** The rate with its default filled in. */
export interface ResolvedRate extends Rate {
  readonly burst: number
}

const DEFAULT_BURST_SHARE = 1 / 10

export function resolveRate({ burst, perMs, records }: Rate): ResolvedRate {
  return { records, perMs, burst: burst ?? Math.max(1, Math.floor(records * DEFAULT_BURST_SHARE)) }
}
