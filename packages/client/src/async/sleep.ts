/** Waiting that an abort ends early. It resolves either way: loops look at their signal themselves. */
import { setMaxListeners } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { GREATEST_TIMER_MS } from './timer.js'

export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  // Many may wait with one signal, all the calls of a session for instance; Node would print a warning at the eleventh.
  setMaxListeners(0, signal)
  try {
    await delay(Math.min(ms, GREATEST_TIMER_MS), undefined, { signal })
  } catch (error) {
    // Asked of the signal and not of the error: under Jest, errors of Node are no `instanceof Error`.
    if (!signal.aborted) throw error
  }
}

/** Resolves when the signal aborts, at once if it has. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** Lets timers and sockets have their turn. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
