/** How often and when a record that failed is tried again. Pure: chance is given. */
import { askedDelayMs, isNonRetryable } from './failures.js'

export interface RetryOptions {
  /** Attempts in all, the first included. Default 16: with the default delays they take two to five minutes. */
  readonly attempts?: number | undefined
  /** Default 200. */
  readonly initialDelayMs?: number | undefined
  /** Default 30000. */
  readonly maxDelayMs?: number | undefined
  /** Default 2. */
  readonly factor?: number | undefined
  /** Share of each delay that is left to chance, 0 to 1. Default 0.5. */
  readonly jitter?: number | undefined
}

/** The options with every default filled in. */
export interface RetryPolicy {
  /** Attempts in all, the first included. */
  readonly attempts: number
  readonly initialDelayMs: number
  readonly maxDelayMs: number
  readonly factor: number
  /** Share of the delay that is left to chance: 0 none, 1 all. */
  readonly jitter: number
}

/** True if a record that has failed this often, the last time with this error, is not to be tried again. */
export function isExhausted(policy: RetryPolicy, attempts: number, error: unknown): boolean {
  return isNonRetryable(error) || attempts >= policy.attempts
}

/** Milliseconds until the attempt after failure number `attempts` (from 1). */
export function retryDelayMs(
  policy: RetryPolicy,
  attempts: number,
  error: unknown,
  chance: number = Math.random(),
): number {
  const askedMs = askedDelayMs(error)
  if (askedMs !== null) return askedMs
  const exponential = policy.initialDelayMs * policy.factor ** Math.min(attempts - 1, 1000)
  const capped = Math.min(exponential, policy.maxDelayMs)
  return capped * (1 - policy.jitter * chance)
}
