/** A moment after which something is not waited for any more; it comes early when a signal aborts. */
import { setMaxListeners } from 'node:events'
import { startTimer } from './timer.js'

export class Deadline {
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #parent: AbortSignal | undefined
  readonly #expire = (): void => this.#controller.abort()
  /** Resolves when it is over; never rejects. */
  readonly over: Promise<void>

  constructor(ms: number, parent?: AbortSignal) {
    setMaxListeners(0, this.signal)
    this.over = new Promise((resolve) => {
      this.signal.addEventListener('abort', () => resolve(), { once: true })
    })
    this.#timer = startTimer(ms, this.#expire)
    this.#parent = parent
    parent?.addEventListener('abort', this.#expire, { once: true })
    if (parent?.aborted) this.#expire()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  get isOver(): boolean {
    return this.signal.aborted
  }

  /** Nobody waits for it any more. */
  clear(): void {
    clearTimeout(this.#timer)
    this.#parent?.removeEventListener('abort', this.#expire)
  }
}
