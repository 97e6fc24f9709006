/**
 * What has been said, and when it may be said again: after one interval, then two, then four, up to a cap.
 * Used for entries a client has been told of, and for dead consumers that have been published.
 */
export class Repeats {
  readonly #firstMs: number
  readonly #maxMs: number
  readonly #said = new Map<string, { times: number; againAtMs: number }>()

  constructor(firstMs: number, maxMs: number) {
    this.#firstMs = firstMs
    this.#maxMs = maxMs
  }

  isDue(key: string, nowMs: number): boolean {
    const last = this.#said.get(key)
    return last === undefined || nowMs >= last.againAtMs
  }

  say(key: string, nowMs: number): void {
    const times = this.#said.get(key)?.times ?? 0
    this.#said.delete(key) // keeps the map in the order of the last time, for forgetOld
    this.#said.set(key, {
      times: times + 1,
      againAtMs: nowMs + Math.min(this.#firstMs * 2 ** times, this.#maxMs),
    })
  }

  forget(key: string): void {
    this.#said.delete(key)
  }

  /** Forgets what was last said more than twice the cap ago: by then it is over, or it may as well be new. */
  forgetOld(nowMs: number): void {
    for (const [key, last] of this.#said) {
      if (nowMs < last.againAtMs + 2 * this.#maxMs) return
      this.#said.delete(key)
    }
  }

  get size(): number {
    return this.#said.size
  }
}
