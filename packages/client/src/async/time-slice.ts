/**
 * Shares the event loop with timers and sockets. Promises that are settled go on before either, so handlers that
 * never wait for anything would keep heartbeats from being sent until every record in memory is handled.
 */

const SLICE_MS = 10
/** Long enough for Redis to answer what is sent meanwhile. */
const REST_MS = 3

export class TimeSlice {
  #endsAtMs = 0
  #needsRest = false
  #next: Promise<void> | null = null

  isOver(nowMs: number): boolean {
    return nowMs >= this.#endsAtMs
  }

  /**
   * Says that one piece of work has just ended. After one that filled a slice by itself the next turn waits for a moment,
   * because a heartbeat that is sent between two of them would otherwise be answered only after the second.
   */
  worked(sinceMs: number): void {
    this.#needsRest = performance.now() - sinceMs > SLICE_MS
  }

  /** Resolves when there is time to work. If each piece of work fills a slice, one of the waiting callers goes on per turn. */
  async turn(): Promise<void> {
    while (this.isOver(performance.now())) await this.next()
  }

  /** Resolves when timers and sockets have had their turn; for all who wait at once, in the order in which they came. */
  next(): Promise<void> {
    this.#next ??= new Promise((resolve) => {
      const begin = (): void => {
        this.#next = null
        this.#endsAtMs = performance.now() + SLICE_MS
        resolve()
      }
      if (this.#needsRest) setTimeout(begin, REST_MS)
      else setImmediate(begin)
      this.#needsRest = false
    })
    return this.#next
  }
}
