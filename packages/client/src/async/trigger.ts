/** A request for work that one loop waits for. Requests that come before the work begins are served together. */
import { GREATEST_TIMER_MS } from './timer.js'

export class Trigger {
  #isFired = false
  #isScheduled = false
  #wake: (() => void) | undefined

  /** Asks for the work soon. */
  fire(): void {
    this.#isFired = true
    this.#wake?.()
  }

  /** Asks for the work in a while. */
  fireLater(ms: number): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setTimeout(() => {
      this.#isScheduled = false
      this.fire()
    }, ms).unref()
  }

  /** Resolves when the work is asked for, when it is due after `ms`, or when the signal aborts. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#isFired && !signal.aborted) await this.#sleep(ms, signal)
    this.#isFired = false
  }

  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', wake)
        this.#wake = undefined
        resolve()
      }
      const timer = setTimeout(wake, Math.min(ms, GREATEST_TIMER_MS))
      signal.addEventListener('abort', wake, { once: true })
      this.#wake = wake
    })
  }
}
