/**
 * The data stream of one airport: a Redis stream with one entry for each flight and one more that marks the end.
 * The client knows nothing of it but its name; how it is called and what it holds is the application's.
 */
import type { JsonObject } from '@redis-stream-client/client'
import type { Flight } from './flights.js'

export const END_OF_STREAM: readonly string[] = ['end', 'true']

/** A flight's delay in minutes, or the end. */
export type AirportRecord = number | 'end'

export function airportStream(service: string, airport: string): string {
  return `${service}:flights:${airport}`
}

/** `Info` of the LBS message, which says whose flights these are. */
export function describeAirport(airport: string): JsonObject {
  return { airport }
}

/** The airport that `Info` speaks of. */
export function airportOf({ airport }: JsonObject): string {
  if (typeof airport !== 'string') throw new Error('a data stream was added without the name of its airport')
  return airport
}

export function formatFlight({ date, delay, destination }: Flight): string[] {
  return ['date', date, 'destination', destination, 'delay', String(delay)]
}

export function parseRecord(fields: readonly string[]): AirportRecord {
  if (fields[0] === 'end') return 'end'
  const delay = Number(fields[fields.indexOf('delay') + 1])
  if (!Number.isInteger(delay)) throw new Error(`neither a flight nor the end: ${fields.join(' ')}`)
  return delay
}
