/**
 * A process that adds the flights in time order, each to the data stream of its airport. The first record of a stream
 * also assigns it, so that some consumer will own it. The
 * last flights are added when the process that started this one says so.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { RecordProducer } from '@redis-stream-client/worker'
import { airportStream, END_OF_STREAM, formatFlight } from './airport-stream.js'
import { findWorkplace, leaveWhenTold } from './child-of-demo.js'
import { delaysByAirport } from './delays.js'
import { type Flight, readFlights } from './flights.js'
import { report } from './reports.js'

/** About 300 flights a second: so slow that consumers own most airports for most of the time, and losing one hurts. */
const FLIGHTS_AT_ONCE = 8
const BATCH_EVERY_MS = 25
const HELD_BACK_SHARE = 0.25

const { redis, service } = findWorkplace()
const producer = new RecordProducer(redis, service)
const leaving = new AbortController()
leaveWhenTold(() => leaving.abort())
let isHoldingBack = true
process.once('message', () => {
  isHoldingBack = false
})

const flights = readFlights()
const left = new Map([...delaysByAirport(flights)].map(([airport, delays]) => [airport, delays.flights]))

const heldBackFrom = Math.floor(flights.length * (1 - HELD_BACK_SHARE))
for (let sent = 0; sent < flights.length && !leaving.signal.aborted; ) {
  const untilFlight = isHoldingBack ? Math.min(sent + FLIGHTS_AT_ONCE, heldBackFrom) : sent + FLIGHTS_AT_ONCE
  const batch = flights.slice(sent, untilFlight)
  await Promise.all(batch.map(send))
  sent += batch.length
  report({ type: 'sent', flights: sent })
  await sleep(BATCH_EVERY_MS)
}
await redis.quit()
if (process.connected) process.disconnect()

/** Records of one stream keep the order of the calls. */
async function send(flight: Flight): Promise<void> {
  const { origin } = flight
  const stream = airportStream(service, origin)
  const added = [producer.add(stream, formatFlight(flight))]
  const leftOfAirport = (left.get(origin) ?? 0) - 1
  left.set(origin, leftOfAirport)
  if (leftOfAirport === 0) added.push(producer.add(stream, END_OF_STREAM))
  await Promise.all(added)
}
