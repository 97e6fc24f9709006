/** Places for what is on its way: who comes when all are taken waits, and who waits longest gets the next one. */

export class Room {
  readonly #places: number
  readonly #waiting: (() => void)[] = []
  #taken = 0

  constructor(places: number) {
    this.#places = places
  }

  get taken(): number {
    return this.#taken
  }

  /** Resolves with a place, to be given back with `leave`. Rejects with the signal's reason, and then there is none. */
  enter(signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error)
    if (this.#taken < this.#places) {
      this.#taken++
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1)
        reject(signal?.reason as Error)
      }
      const enter = (): void => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }
      this.#waiting.push(enter)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#taken--
    else next()
  }
}
