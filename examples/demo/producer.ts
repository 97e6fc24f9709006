/**
 * A process that adds the flights in time order, each to the data stream of its airport. When an airport comes up for
 * the first time, its data stream is added to the load-balancer stream, so that some consumer will own it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LbsProducer } from '@redis-stream-client/client'
import type { ChainableCommander } from 'ioredis'
import { airportStream, describeAirport, END_OF_STREAM, formatFlight } from './airport-stream.js'
import { findWorkplace, leaveWhenTold } from './child-of-demo.js'
import { delaysByAirport } from './delays.js'
import { type Flight, readFlights } from './flights.js'
import { report } from './reports.js'

/** Slow enough that consumers own most airports for most of the time, so that losing one hurts. */
const FLIGHTS_PER_SECOND = 420
const BATCH_EVERY_MS = 25

const { redis, service } = findWorkplace()
const lbs = new LbsProducer(redis, service)
const leaving = new AbortController()
leaveWhenTold(() => leaving.abort())

const flights = readFlights()
const left = new Map([...delaysByAirport(flights)].map(([airport, delays]) => [airport, delays.flights]))
const known = new Set<string>()

const startMs = performance.now()
for (let sent = 0; sent < flights.length && !leaving.signal.aborted; ) {
  const due = Math.ceil(((performance.now() - startMs) / 1000) * FLIGHTS_PER_SECOND)
  const batch = flights.slice(sent, due)
  await send(batch)
  sent += batch.length
  report({ type: 'sent', flights: sent })
  await sleep(BATCH_EVERY_MS)
}
await redis.quit()
if (process.connected) process.disconnect()

async function send(batch: readonly Flight[]): Promise<void> {
  const pipeline = redis.pipeline()
  for (const flight of batch) addFlight(pipeline, flight)
  for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error
  const arrivals = new Set(batch.map(({ origin }) => origin).filter((airport) => !known.has(airport)))
  await Promise.all(
    [...arrivals].map((airport) => lbs.add(airportStream(service, airport), describeAirport(airport))),
  )
  for (const airport of arrivals) known.add(airport)
}

function addFlight(pipeline: ChainableCommander, flight: Flight): void {
  const { origin } = flight
  const stream = airportStream(service, origin)
  pipeline.xadd(stream, '*', ...formatFlight(flight))
  const leftOfAirport = (left.get(origin) ?? 0) - 1
  left.set(origin, leftOfAirport)
  if (leftOfAirport === 0) pipeline.xadd(stream, '*', ...END_OF_STREAM)
}
