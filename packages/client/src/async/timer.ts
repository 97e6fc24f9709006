/** Timers whose time may be the sum of several durations. */

/** The longest time, about 25 days, that setTimeout can wait: it fires at once for anything longer. */
export const GREATEST_TIMER_MS: number = 2 ** 31 - 1

/** As setTimeout, but a longer time than GREATEST_TIMER_MS is cut to that. */
export function startTimer(ms: number, act: () => void): NodeJS.Timeout {
  return setTimeout(act, Math.min(ms, GREATEST_TIMER_MS))
}
