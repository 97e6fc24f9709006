/** Compares what the consumers have worked out with what the file says. */
import { areEqual, type Delays, NO_DELAYS } from './delays.js'

export interface Comparison {
  readonly equal: readonly string[]
  readonly unequal: readonly string[]
  readonly flightsLost: number
  readonly flightsCountedTwice: number
}

export function compare(
  expected: ReadonlyMap<string, Delays>,
  results: ReadonlyMap<string, Delays>,
): Comparison {
  const equal: string[] = []
  const unequal: string[] = []
  let [flightsLost, flightsCountedTwice] = [0, 0]
  for (const airport of new Set([...expected.keys(), ...results.keys()])) {
    const want = expected.get(airport) ?? NO_DELAYS
    const have = results.get(airport) ?? NO_DELAYS
    ;(areEqual(want, have) ? equal : unequal).push(airport)
    flightsLost += Math.max(0, want.flights - have.flights)
    flightsCountedTwice += Math.max(0, have.flights - want.flights)
  }
  return { equal, unequal, flightsLost, flightsCountedTwice }
}
