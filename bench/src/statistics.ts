/** What is said of many samples of one thing. */

export interface Summary {
  readonly samples: number
  readonly median: number
  readonly p99: number
  readonly max: number
}

/** Nearest rank: a value that was really measured. With fewer than a hundred samples, p99 is the greatest. */
export function quantile(sorted: readonly number[], share: number): number {
  if (sorted.length === 0) return Number.NaN
  const rank = Math.ceil(share * sorted.length)
  return sorted[Math.min(Math.max(rank, 1), sorted.length) - 1] as number
}

export function summarize(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b)
  return {
    samples: sorted.length,
    median: quantile(sorted, 0.5),
    p99: quantile(sorted, 0.99),
    max: quantile(sorted, 1),
  }
}

/** How uneven shares are: the greatest by the mean. 1 is even; NaN if there is nothing to share. */
export function spread(shares: readonly number[]): number {
  const total = shares.reduce((sum, share) => sum + share, 0)
  return (Math.max(...shares) * shares.length) / total
}
