/** Whether something that is looked at again and again grows. */

export interface Flatness {
  readonly earlyMean: number
  readonly lateMean: number
  readonly isFlat: boolean
}

/** The first third is warming up; then the last third may not be greater than the second by more than `slack`. */
export function flatnessOf(samples: readonly number[], slack: number): Flatness {
  const third = Math.floor(samples.length / 3)
  const earlyMean = mean(samples.slice(third, 2 * third))
  const lateMean = mean(samples.slice(2 * third))
  return { earlyMean, lateMean, isFlat: lateMean <= earlyMean + slack }
}

function mean(samples: readonly number[]): number {
  return samples.reduce((sum, sample) => sum + sample, 0) / samples.length
}
