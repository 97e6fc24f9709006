/**
 * Calls made in the same turn of the event loop travel together: what has gathered by the end of the turn is sent
 * in batches, in the order of the calls, a few batches at a time.
 */
import { Fifo } from '@redis-stream-client/notifs/internal'

interface Waiting<In, Out> {
  readonly item: In
  readonly resolve: (out: Out) => void
  readonly reject: (error: unknown) => void
}

const CONCURRENT_BATCHES = 4

export class MicroBatch<In, Out> {
  readonly #send: (items: In[]) => Promise<Out[]>
  readonly #limit: number
  readonly #waiting = new Fifo<Waiting<In, Out>>()
  #isScheduled = false
  #underWay = 0

  /** `send` answers one result per item, in order. If it rejects, so does every call of the batch. */
  constructor(limit: number, send: (items: In[]) => Promise<Out[]>) {
    this.#limit = limit
    this.#send = send
  }

  add(item: In): Promise<Out> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject })
      this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#isScheduled || this.#underWay >= CONCURRENT_BATCHES) return
    this.#isScheduled = true
    setImmediate(() => {
      this.#isScheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    while (this.#waiting.length > 0 && this.#underWay < CONCURRENT_BATCHES) {
      void this.#sendBatch(this.#waiting.take(this.#limit))
    }
  }

  async #sendBatch(batch: Waiting<In, Out>[]): Promise<void> {
    this.#underWay++
    try {
      const results = await this.#send(batch.map((each) => each.item))
      for (const [index, each] of batch.entries()) each.resolve(results[index] as Out)
    } catch (error) {
      for (const each of batch) each.reject(error)
    } finally {
      this.#underWay--
      if (this.#waiting.length > 0) this.#schedule()
    }
  }
}
