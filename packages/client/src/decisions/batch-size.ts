/**
 * How many entries to ask for. Redis counts entries; what has to be bounded is their bytes, which nobody knows before
 * they are here. So the first request is for one entry (or a few), and each that goes well allows twice as many, up to
 * what fits into the limit if all are as large as the largest seen lately. One that fails allows half as many.
 */

export class BatchSize {
  readonly #limitBytes: number
  readonly #first: number
  #allowed: number
  /** The largest entry of the last answer, or half of what was expected before. */
  #expectedBytes = 0

  constructor(limitBytes: number, first: number = 1) {
    this.#limitBytes = limitBytes
    this.#first = first
    this.#allowed = first
  }

  /** How many to ask for now, from 1 to `most`. */
  count(most: number): number {
    const fitting = Math.floor(this.#limitBytes / Math.max(1, this.#expectedBytes))
    return Math.max(1, Math.min(most, this.#allowed, fitting))
  }

  /** An answer came: how many bytes each entry had. */
  hear(bytes: readonly number[]): void {
    this.#expectedBytes = bytes.reduce((most, each) => Math.max(most, each), this.#expectedBytes / 2)
    this.#allowed = Math.min(2 * this.#allowed, this.#limitBytes)
  }

  /** No answer came to a request for so many. */
  fail(count: number): void {
    this.#allowed = Math.max(1, Math.floor(count / 2))
  }

  /** Nothing was there: what comes next may be of another kind. */
  reset(): void {
    this.#allowed = this.#first
  }
}
