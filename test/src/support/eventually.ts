/** Waiting for a condition: a deadline instead of a sleep, and a report of what was seen last. */
import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'

export interface EventuallyOptions {
  /** Give up after this long; 5,000 by default. */
  readonly timeoutMs?: number
  /** Pause between two looks; 10 by default. */
  readonly everyMs?: number
}

/**
 * Reads until what was read is as wanted, and resolves with it. A `read` that throws counts as not yet.
 * Rejects at the deadline, naming `what` was awaited and what was last seen.
 */
export async function eventually<T>(
  what: string,
  read: () => T | Promise<T>,
  isWanted: (value: T) => boolean = Boolean,
  { timeoutMs = 5_000, everyMs = 10 }: EventuallyOptions = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs
  let looks = 0
  for (;;) {
    looks++
    let seen: string
    let cause: unknown
    try {
      const value = await read()
      if (isWanted(value)) return value
      seen = inspect(value, { depth: 5, breakLength: 110 })
    } catch (error) {
      seen = `an error: ${error instanceof Error ? error.message : inspect(error)}`
      cause = error
    }
    if (performance.now() >= deadline) {
      throw new Error(`not within ${timeoutMs} ms: ${what}; looked ${looks} times, last saw ${seen}`, {
        cause,
      })
    }
    await sleep(everyMs)
  }
}
