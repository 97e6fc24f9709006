/** What a handler throws to say how it wants to be treated. Anything else it throws is retried as configured. */
import { GREATEST_TIMER_MS } from '@redis-stream-client/client/internal'

/** Trying again is useless: the record goes to the dead letters at once. */
export class NonRetryableError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'NonRetryableError'
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
