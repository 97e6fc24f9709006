/**
 * What handlers do with records, in a Redis that no fault touches: one list for each data stream, in the order of the
 * reports. A handler reports when it begins, and just before it returns, and waits until the report is stored.
 */
import type { Redis } from 'ioredis'

/** `doomed`: it throws an error after which there are no more attempts. */
export type HandlingStep = 'begun' | 'handled' | 'failed' | 'doomed'

export interface Handling {
  readonly step: HandlingStep
  readonly fence: number
  /** Number of the record in its stream, from 1. */
  readonly n: number
  readonly attempt: number
  readonly worker: string
}

export class Handlings {
  readonly #redis: Redis

  constructor(redis: Redis) {
    this.#redis = redis
  }

  async note(dataStreamName: string, { attempt, fence, n, step, worker }: Handling): Promise<void> {
    await this.#redis.rpush(`handlings:${dataStreamName}`, `${step} ${fence} ${n} ${attempt} ${worker}`)
  }

  /** Those of a data stream from an index on. */
  async read(dataStreamName: string, from: number): Promise<Handling[]> {
    const lines = await this.#redis.lrange(`handlings:${dataStreamName}`, from, -1)
    return lines.map((line) => {
      const [step, fence, n, attempt, worker = ''] = line.split(' ')
      return {
        step: step as HandlingStep,
        fence: Number(fence),
        n: Number(n),
        attempt: Number(attempt),
        worker,
      }
    })
  }
}
