/** A semaphore for records on their way: callers wait, in order, while there are too many of them, or too many bytes. */
import { Fifo } from '@redis-stream-client/notifs/internal'

export interface RoomLimits {
  readonly records: number
  /** One record always has room, however large it is. */
  readonly bytes: number
}

interface Waiter {
  readonly bytes: number
  readonly enter: () => void
  readonly refuse: (reason: unknown) => void
  isOver: boolean
}

export class Room {
  readonly #limits: RoomLimits
  readonly #waiting = new Fifo<Waiter>()
  #records = 0
  #bytes = 0

  constructor(limits: RoomLimits) {
    this.#limits = limits
  }

  get taken(): number {
    return this.#records
  }

  /** True if a record of this size would have to wait. */
  isFull(bytes: number): boolean {
    return this.#waiting.length > 0 || !this.#fits(bytes)
  }

  /** Resolves when there is room for a record, to be given back with `leave`. Rejects with the signal's reason if it aborts. */
  enter(bytes: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error)
    if (!this.isFull(bytes)) {
      this.#take(bytes)
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#settle(waiter, () => reject(signal?.reason as Error))
        this.#admit()
      }
      const end = (act: () => void) => (): void => {
        signal?.removeEventListener('abort', onAbort)
        act()
      }
      const waiter: Waiter = {
        bytes,
        enter: end(resolve),
        refuse: (reason) => end(() => reject(reason as Error))(),
        isOver: false,
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#waiting.push(waiter)
    })
  }

  leave(bytes: number): void {
    this.#records--
    this.#bytes -= bytes
    this.#admit()
  }

  /** Rejects all calls that wait now. */
  refuseWaiting(reason: Error): void {
    for (const waiter of this.#waiting.take(this.#waiting.length)) {
      this.#settle(waiter, () => waiter.refuse(reason))
    }
  }

  /** Admits waiting calls, in order, as long as there is room. */
  #admit(): void {
    for (let waiter = this.#waiting.first; waiter !== undefined; waiter = this.#waiting.first) {
      if (!waiter.isOver) {
        if (!this.#fits(waiter.bytes)) return
        this.#take(waiter.bytes)
        this.#settle(waiter, waiter.enter)
      }
      this.#waiting.shift()
    }
  }

  #settle(waiter: Waiter, act: () => void): void {
    if (waiter.isOver) return
    waiter.isOver = true
    act()
  }

  #fits(bytes: number): boolean {
    if (this.#records === 0) return true
    return this.#records < this.#limits.records && this.#bytes + bytes <= this.#limits.bytes
  }

  #take(bytes: number): void {
    this.#records++
    this.#bytes += bytes
  }
}
