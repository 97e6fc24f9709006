/**
 * A backoff for each key: what was done for a key may be done again after one interval, then after two, four, up to a
 * cap. Used for entries the application was told of, and for dead consumers that were published.
 */
export class KeyedBackoff {
  readonly #firstMs: number
  readonly #maxMs: number
  readonly #last = new Map<string, { times: number; againAtMs: number }>()

  constructor(firstMs: number, maxMs: number) {
    this.#firstMs = firstMs
    this.#maxMs = maxMs
  }

  isDue(key: string, nowMs: number): boolean {
    const last = this.#last.get(key)
    return last === undefined || nowMs >= last.againAtMs
  }

  note(key: string, nowMs: number): void {
    const times = this.#last.get(key)?.times ?? 0
    this.#last.delete(key) // keeps the map in the order of the last time, for forgetOld
    this.#last.set(key, {
      times: times + 1,
      againAtMs: nowMs + Math.min(this.#firstMs * 2 ** times, this.#maxMs),
    })
  }

  forget(key: string): void {
    this.#last.delete(key)
  }

  /** Forgets keys whose last time was more than twice the cap ago: by then it is over, or it may as well be new. */
  forgetOld(nowMs: number): void {
    for (const [key, last] of this.#last) {
      if (nowMs < last.againAtMs + 2 * this.#maxMs) return
      this.#last.delete(key)
    }
  }

  get size(): number {
    return this.#last.size
  }
}
