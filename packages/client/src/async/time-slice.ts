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
  /** True once timers and sockets have had their turn since the last piece of work. */
  #isFresh = true
  #isRefreshing = false

  isOver(nowMs: number): boolean {
    return nowMs >= this.#endsAtMs
  }

  /**
   * Says that one piece of work has just ended. After one that filled a slice by itself the next turn waits for a moment,
   * because a heartbeat that is sent between two of them would otherwise be answered only after the second.
   */
  worked(sinceMs: number): void {
    this.#needsRest = performance.now() - sinceMs > SLICE_MS
    this.#isFresh = false
    if (!this.#isRefreshing && !this.#needsRest) this.#refresh()
  }

  /** Whether there is time to work now. A slice begins at once if nothing was done since timers and sockets had their turn. */
  mayWork(): boolean {
    if (!this.isOver(performance.now())) return true
    if (this.#isFresh) this.#begin()
    return !this.isOver(performance.now())
  }

  /** Resolves when there is time to work. If each piece of work fills a slice, one of the waiting callers goes on per turn. */
  async turn(): Promise<void> {
    while (!this.mayWork()) await this.next()
  }

  /** Resolves when timers and sockets have had their turn; for all who wait at once, in the order in which they came. */
  next(): Promise<void> {
    this.#next ??= new Promise((resolve) => {
      const begin = (): void => {
        this.#next = null
        this.#begin()
        resolve()
      }
      if (this.#needsRest) setTimeout(begin, REST_MS)
      else setImmediate(begin)
      this.#needsRest = false
    })
    return this.#next
  }

  #begin(): void {
    this.#isFresh = false
    this.#endsAtMs = performance.now() + SLICE_MS
  }

  #refresh(): void {
    this.#isRefreshing = true
    setImmediate(() => {
      this.#isRefreshing = false
      this.#isFresh = this.#next === null && !this.#needsRest
    })
  }
}
