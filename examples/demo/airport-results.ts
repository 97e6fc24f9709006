/**
 * The results, in the same Redis. A flight is added to them by the transaction that also commits its record, so it is
 * counted once, whoever is killed or stopped in the middle, and a former owner cannot count it again.
 */
import type { TransactionCommands } from '@redis-stream-client/worker'
import type { Redis } from 'ioredis'
import type { Delays } from './delays.js'

export class AirportResults {
  readonly #flights: string
  readonly #minutes: string
  readonly #worst: string

  constructor(service: string) {
    this.#flights = `${service}:results-flights`
    this.#minutes = `${service}:results-minutes`
    this.#worst = `${service}:results-worst`
  }

  /** Queues what one flight changes. The first reply is the number of flights of the airport. */
  add(multi: TransactionCommands, airport: string, delay: number): unknown {
    return multi
      .hincrby(this.#flights, airport, 1)
      .hincrby(this.#minutes, airport, delay)
      .zadd(this.#worst, 'GT', delay, airport)
  }

  /** The results so far, by airport. */
  async read(redis: Redis): Promise<Map<string, Delays>> {
    const [flights, minutes] = await Promise.all([redis.hgetall(this.#flights), redis.hgetall(this.#minutes)])
    const worst = await Promise.all(Object.keys(flights).map((airport) => redis.zscore(this.#worst, airport)))
    const results = Object.entries(flights).map(([airport, count], index) => {
      const delays = {
        flights: Number(count),
        totalMinutes: Number(minutes[airport]),
        worstMinutes: Number(worst[index]),
      }
      return [airport, delays] as const
    })
    return new Map(results)
  }
}
