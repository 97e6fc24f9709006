/** Lets the records of a stream wait until they fill a batch, or until the first of them has waited long enough. */
import type { RecordBuffer } from './record-buffer.js'

export interface BatchFill {
  readonly records: number
  readonly bytes: number
  readonly waitMs: number
}

export class BatchGate {
  readonly #fill: BatchFill
  readonly #buffer: RecordBuffer
  readonly #onDue: () => void
  #timer: NodeJS.Timeout | undefined
  #isDue = false

  constructor(fill: BatchFill, buffer: RecordBuffer, onDue: () => void) {
    this.#fill = fill
    this.#buffer = buffer
    this.#onDue = onDue
  }

  /** True if a batch need not wait for more records. */
  get isOpen(): boolean {
    const { bytes, records } = this.#fill
    return this.#isDue || this.#buffer.length >= records || this.#buffer.bytes >= bytes
  }

  /** Records were added to the buffer. */
  added(): void {
    if (this.#isDue || this.#timer !== undefined || this.#buffer.length === 0) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#isDue = true
      this.#onDue()
    }, this.#fill.waitMs)
  }

  /** Records were taken out of the buffer. Those that are left wait for a batch of their own. */
  taken(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#isDue = false
    this.added()
  }
}
