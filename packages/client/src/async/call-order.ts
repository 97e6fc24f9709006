/** Keeps calls in the order in which they were made, though what each of them waits for may take longer than the next. */
export class CallOrder {
  /** Settles with the last call that waits; null if there is none. Never rejects. */
  #last: Promise<unknown> | null = null

  /**
   * What this call was waiting for, when the calls before it have gone on. Answered at once, and not as a promise, if
   * there is nothing to wait for. Rejects as what it waits for does, in its turn.
   */
  wait<T>(own: T | Promise<T>): T | Promise<T> {
    if (this.#last === null && !(own instanceof Promise)) return own
    const before = this.#last
    const settled = Promise.allSettled([own, before])
    const turn = settled.then(([result]) => {
      if (result.status === 'rejected') throw result.reason
      return result.value
    })
    this.#last = settled
    void settled.then(() => {
      if (this.#last === settled) this.#last = null
    })
    return turn as Promise<T>
  }
}
