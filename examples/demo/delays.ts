/** What is worked out for each airport: a fold over its flights. Whole numbers, so that equal means equal. */
import type { Flight } from './flights.js'

export interface Delays {
  readonly flights: number
  readonly totalMinutes: number
  /** null while there was no flight. */
  readonly worstMinutes: number | null
}

export const NO_DELAYS: Delays = { flights: 0, totalMinutes: 0, worstMinutes: null }

export function addDelay(delays: Delays, minutes: number): Delays {
  return {
    flights: delays.flights + 1,
    totalMinutes: delays.totalMinutes + minutes,
    worstMinutes: Math.max(delays.worstMinutes ?? minutes, minutes),
  }
}

export function areEqual(a: Delays, b: Delays): boolean {
  return a.flights === b.flights && a.totalMinutes === b.totalMinutes && a.worstMinutes === b.worstMinutes
}

/** The delays of each airport, straight from the file. */
export function delaysByAirport(flights: readonly Flight[]): Map<string, Delays> {
  const byAirport = new Map<string, Delays>()
  for (const { origin, delay } of flights) {
    byAirport.set(origin, addDelay(byAirport.get(origin) ?? NO_DELAYS, delay))
  }
  return byAirport
}
