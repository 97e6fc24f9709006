/**
 * How many of something to ask Redis for at once, when many clients may ask for the same at the same moment. Their calls
 * queue in Redis, and the heartbeats of all of them queue behind. So an answer that takes long halves the number, and one
 * that comes soon doubles it, up to a greatest one.
 */

const LEAST = 5

export class PacedCount {
  readonly #greatest: number
  readonly #longMs: number
  #count: number

  /** `longMs`: from when on an answer has taken long. */
  constructor(greatest: number, longMs: number) {
    this.#greatest = greatest
    this.#longMs = longMs
    this.#count = greatest
  }

  get count(): number {
    return this.#count
  }

  /** An answer has taken so long. */
  hear(ms: number): void {
    if (ms > this.#longMs) this.#count = Math.max(LEAST, Math.floor(this.#count / 2))
    else if (ms < this.#longMs / 2) this.#count = Math.min(this.#greatest, 2 * this.#count)
  }
}
