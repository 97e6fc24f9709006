/**
 * Shares the event loop with timers and sockets. Promises that are settled go on before either, so handlers that
 * never wait for anything would keep heartbeats from being sent until every record in memory is handled.
 */

const SLICE_MS = 10

export class TimeSlice {
  #endsAtMs = 0
  #next: Promise<void> | null = null

  isOver(nowMs: number): boolean {
    return nowMs >= this.#endsAtMs
  }

  /** Resolves when there is time to work: of all who wait, one goes on between two turns if its work fills a slice. */
  async turn(): Promise<void> {
    while (this.isOver(performance.now())) await this.next()
  }

  /** Resolves when timers and sockets have had their turn; for all who wait at once, in the order in which they came. */
  next(): Promise<void> {
    this.#next ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#next = null
        this.#endsAtMs = performance.now() + SLICE_MS
        resolve()
      })
    })
    return this.#next
  }
}
