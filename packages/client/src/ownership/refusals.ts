/**
 * Counts how often Redis has refused to take an entry, for a reason that is not known to be the entry's, while it was
 * willing to take others. One odd answer of a proxy must not send a good entry to the dead letters.
 */
import type { Clock } from '../decisions/clock.js'

/** How often an entry has to be refused, and over how long a time, until it is to blame. */
const REFUSALS_TO_BLAME = 6
const LEAST_TIME_MS = 10_000
/** Entries that are counted at the same time; the oldest counts are forgotten first. */
const GREATEST_NUMBER = 1000

interface Refused {
  readonly sinceMs: number
  readonly count: number
}

export class Refusals {
  readonly #clock: Clock
  readonly #refused = new Map<string, Refused>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Counts a refusal. Answers whether the entry has been refused so often and for so long that it is to blame. */
  add(idInLbs: string): boolean {
    const nowMs = this.#clock.now().monotonicMs
    const { count, sinceMs } = this.#refused.get(idInLbs) ?? { count: 0, sinceMs: nowMs }
    this.#refused.set(idInLbs, { sinceMs, count: count + 1 })
    const [oldest] = this.#refused.keys()
    if (this.#refused.size > GREATEST_NUMBER && oldest !== undefined) this.#refused.delete(oldest)
    return count + 1 >= REFUSALS_TO_BLAME && nowMs - sinceMs >= LEAST_TIME_MS
  }

  /** Redis has answered for the entry. */
  forget(idInLbs: string): void {
    this.#refused.delete(idInLbs)
  }
}
