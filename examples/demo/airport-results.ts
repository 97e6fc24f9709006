/**
 * The results, outside of what the client guards: a Redis hash, written under the fencing token of the owner.
 *
 * A process that was stopped can wake up with a write on its lips, long after another took over. So the place written
 * to remembers the greatest token it has seen for each airport, and refuses smaller ones.
 */
import type { Redis } from 'ioredis'
import type { Delays } from './delays.js'

/**
 * KEYS results, greatest token seen
 * ARGV airport, fencing token, result
 * Returns 1 if written, 0 if a later owner has been here.
 */
const WRITE = `
  local seen = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '0')
  if tonumber(ARGV[2]) < seen then return 0 end
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  return 1
`

/** `isFinal` once all flights are in; before that it is what an owner began with. */
export interface AirportResult {
  readonly delays: Delays
  readonly isFinal: boolean
}

export class AirportResults {
  readonly #redis: Redis
  readonly #keys: [results: string, tokens: string]

  constructor(redis: Redis, service: string) {
    this.#redis = redis
    this.#keys = [`${service}:results`, `${service}:results-tokens`]
  }

  /** Resolves false, with nothing changed, if an owner with a greater token has written before. */
  async write(airport: string, fencingToken: number, result: AirportResult): Promise<boolean> {
    const argv = [airport, fencingToken, JSON.stringify(result)]
    return (await this.#redis.eval(WRITE, 2, ...this.#keys, ...argv)) === 1
  }

  /** The final results, by airport. */
  async read(): Promise<Map<string, AirportResult>> {
    const all = Object.entries(await this.#redis.hgetall(this.#keys[0]))
    const results = all.map(([airport, text]) => [airport, JSON.parse(text) as AirportResult] as const)
    return new Map(results.filter(([, { isFinal }]) => isFinal))
  }
}
