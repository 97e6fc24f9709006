/** The data: flights-10k.json of vega-datasets, 10,000 flights of early 2001 in the order of their departure. */
import { readFileSync } from 'node:fs'

export interface Flight {
  /** Local time of departure: `2001/01/01 00:47`. */
  readonly date: string
  /** Delay on arrival in minutes; below 0 for an early one. */
  readonly delay: number
  readonly distance: number
  /** Code of the airport of departure. */
  readonly origin: string
  readonly destination: string
}

export function readFlights(): Flight[] {
  const file = new URL('../data/flights-10k.json', import.meta.resolve('vega-datasets'))
  return JSON.parse(readFileSync(file, 'utf8')) as Flight[]
}
