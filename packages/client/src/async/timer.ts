/** Timers whose time may be the sum of several durations. */

/** setTimeout fires at once for anything longer. About 25 days. */
export const GREATEST_TIMER_MS: number = 2 ** 31 - 1

/** As setTimeout. What would be later than in 25 days comes then. */
export function startTimer(ms: number, act: () => void): NodeJS.Timeout {
  return setTimeout(act, Math.min(ms, GREATEST_TIMER_MS))
}
