/** What a handler throws to say how it wants to be treated. Anything else it throws is retried as configured. */
import { GREATEST_TIMER_MS } from '@redis-stream-client/client/internal'

/** Trying again is useless: the record goes to the dead letters at once. */
export class NonRetryableError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NonRetryableError'
  }
}

/**
 * `throw new BatchError(index, cause)` for a batch: the items before `index` are done with, the one at `index` has failed
 * with `cause`, and the next call begins with it. `cause` says how it goes on, as if the handler of a single item had
 * thrown it.
 */
export class BatchError extends Error {
  /** Of the item to blame in the batch, from 0. */
  readonly index: number

  /** @throws RangeError if `index` is no whole number of at least 0. */
  constructor(index: number, cause: unknown) {
    if (!Number.isSafeInteger(index) || index < 0) {
      throw new RangeError(`BatchError takes the index of an item, from 0, got ${String(index)}`)
    }
    super(`item ${index} of a batch has failed`, { cause })
    this.name = 'BatchError'
    this.index = index
  }
}

/** Try again after this long, whatever the backoff says. The attempt counts like any other. */
export class RetryAfterError extends Error {
  readonly delayMs: number

  constructor(delayMs: number, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'RetryAfterError'
    this.delayMs = delayMs
  }
}

/**
 * `throw retryAfter(30_000)`: sets the delay before the next attempt, for example from a Retry-After header.
 * @throws RangeError if `delayMs` is not a number of at least 0.
 */
export function retryAfter(
  delayMs: number,
  message: string = `try again after ${delayMs} ms`,
  options?: ErrorOptions,
): RetryAfterError {
  if (!(delayMs >= 0 && delayMs <= GREATEST_TIMER_MS)) {
    throw new RangeError(`retryAfter takes 0 to ${GREATEST_TIMER_MS} milliseconds, got ${delayMs}`)
  }
  return new RetryAfterError(delayMs, message, options)
}

/** True if what was thrown asks for no further attempt. Anything can be thrown, also what throws when looked at. */
export function isNonRetryable(thrown: unknown): boolean {
  return readOr(false, () => thrown instanceof NonRetryableError)
}

/** Which item of a batch of this length is to blame, and why. Null if what was thrown does not say so. */
export function blameIn(thrown: unknown, length: number): { index: number; error: unknown } | null {
  const blame = readOr(null, () =>
    thrown instanceof BatchError ? { index: thrown.index, error: thrown.cause ?? thrown } : null,
  )
  return blame !== null && Number.isSafeInteger(blame.index) && blame.index >= 0 && blame.index < length
    ? blame
    : null
}

/** The delay that what was thrown asks for; null if it asks for none that a timer can keep. */
export function askedDelayMs(thrown: unknown): number | null {
  const delayMs = readOr(null, () => (thrown instanceof RetryAfterError ? thrown.delayMs : null))
  return typeof delayMs === 'number' && delayMs >= 0 && delayMs <= GREATEST_TIMER_MS ? delayMs : null
}

/** What `read` answers, or `otherwise` if it throws. */
export function readOr<T>(otherwise: T, read: () => T): T {
  try {
    return read()
  } catch {
    return otherwise
  }
}
