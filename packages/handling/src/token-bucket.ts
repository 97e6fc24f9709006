/**
 * A token bucket: so many permits at once, and from then on as many as its rate refills. In any span of time at most
 * `capacity` permits more than the rate allows are given out. lua/includes/permits.lua is the same, kept in Redis.
 */
export interface BucketShape {
  /** Permits it holds when it is full. */
  readonly capacity: number
  /** How long it takes to refill one permit. */
  readonly intervalMs: number
}

export class TokenBucket {
  readonly #shape: BucketShape
  /** How many permits are missing, as of `#atMs`. */
  #missing = 0
  #atMs: number

  constructor(shape: BucketShape, nowMs: number) {
    this.#shape = shape
    this.#atMs = nowMs
  }

  /** How many permits there are now, at most `wanted`; if there is none, how long until there is one. */
  look(nowMs: number, wanted: number): { permits: number; waitMs: number } {
    const { capacity, intervalMs } = this.#shape
    this.#refill(nowMs)
    const permits = Math.min(wanted, Math.floor(capacity - this.#missing))
    return { permits, waitMs: permits > 0 ? 0 : (this.#missing + 1 - capacity) * intervalMs }
  }

  /** Takes permits that `look` has shown. */
  take(permits: number): void {
    this.#missing += permits
  }

  /** Takes a permit back that was not used. */
  giveBack(): void {
    this.#missing = Math.max(0, this.#missing - 1)
  }

  /** A clock that was set back refills nothing. */
  #refill(nowMs: number): void {
    const refilled = Math.max(0, nowMs - this.#atMs) / this.#shape.intervalMs
    this.#missing = Math.max(0, this.#missing - refilled)
    this.#atMs = nowMs
  }
}
