/**
 * Calls made in the same turn of the event loop travel together: what has gathered by the end of the turn is sent
 * in batches, in the order of the calls, a few batches at a time, and no more bytes at a time than BATCH_BYTES.
 */
import { Fifo } from '@redis-stream-client/notifs/internal'
import { BATCH_BYTES, batchLength } from '../decisions/batches.js'

interface Waiting<In, Out> {
  readonly item: In
  readonly resolve: (out: Out) => void
  readonly reject: (error: unknown) => void
}

const CONCURRENT_BATCHES = 4

export class MicroBatch<In, Out> {
  readonly #send: (items: In[]) => Promise<Out[]>
  readonly #limit: number
  readonly #bytesOf: (item: In) => number
  readonly #waiting = new Fifo<Waiting<In, Out>>()
  #isScheduled = false
  #underWay = 0
  #bytesUnderWay = 0

  /**
   * `send` answers one result per item, in order. If it rejects, so does every call of the batch. `bytesOf` says how much
   * an item adds to what is sent, where that varies.
   */
  constructor(limit: number, send: (items: In[]) => Promise<Out[]>, bytesOf: (item: In) => number = () => 0) {
    this.#limit = limit
    this.#send = send
    this.#bytesOf = bytesOf
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
    while (this.#underWay < CONCURRENT_BATCHES) {
      const next = this.#waiting.peek(this.#limit).map(({ item }) => item)
      const count = batchLength(next, this.#limit, this.#bytesOf)
      const bytes = next.slice(0, count).reduce((sum, item) => sum + this.#bytesOf(item), 0)
      // Commands on one connection are answered one after the other, so the bytes of all delay each.
      const isTooMuch = this.#underWay > 0 && this.#bytesUnderWay + bytes > BATCH_BYTES
      if (count === 0 || isTooMuch) return
      void this.#sendBatch(this.#waiting.take(count), bytes)
    }
  }

  async #sendBatch(batch: Waiting<In, Out>[], bytes: number): Promise<void> {
    this.#underWay++
    this.#bytesUnderWay += bytes
    try {
      const results = await this.#send(batch.map((each) => each.item))
      for (const [index, each] of batch.entries()) each.resolve(results[index] as Out)
    } catch (error) {
      for (const each of batch) each.reject(error)
    } finally {
      this.#underWay--
      this.#bytesUnderWay -= bytes
      if (this.#waiting.length > 0) this.#schedule()
    }
  }
}
