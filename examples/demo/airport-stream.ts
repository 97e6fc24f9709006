/**
 * The data stream of one airport: a Redis stream with one record for each flight and one more that marks the end.
 * How it is called and what it holds is the application's.
 */
import type { RecordFields } from '@redis-stream-client/worker'
import type { Flight } from './flights.js'

export const END_OF_STREAM: RecordFields = { end: 'true' }

/** A flight's delay in minutes, or the end. */
export type AirportRecord = number | 'end'

export function airportStream(service: string, airport: string): string {
  return `${service}:flights:${airport}`
}

export function airportOf(dataStreamName: string): string {
  return dataStreamName.slice(dataStreamName.lastIndexOf(':') + 1)
}

export function formatFlight({ date, delay, destination }: Flight): RecordFields {
  return { date, destination, delay }
}

export function parseRecord({ delay, end }: Readonly<Record<string, string>>): AirportRecord {
  if (end !== undefined) return 'end'
  const minutes = Number(delay)
  if (!Number.isInteger(minutes)) throw new Error(`neither a flight nor the end: a delay of ${delay}`)
  return minutes
}
