/** Records of one stream that were read and not handled yet, in order. */

import { comparePositions, type StreamRecord } from '@redis-stream-client/handling'
import { Fifo } from '@redis-stream-client/notifs/internal'

/** How many records all buffers of a worker hold. */
export interface BufferUse {
  records: number
}

export class RecordBuffer {
  readonly #use: BufferUse
  readonly #records = new Fifo<StreamRecord>()

  constructor(use: BufferUse) {
    this.#use = use
  }

  get length(): number {
    return this.#records.length
  }

  get first(): StreamRecord | undefined {
    return this.#records.first
  }

  push(record: StreamRecord): void {
    this.#records.push(record)
    this.#use.records++
  }

  peek(count: number): StreamRecord[] {
    return this.#records.peek(count)
  }

  /** Drops the records up to and including this position. */
  dropThrough(position: string): void {
    for (let first = this.first; first !== undefined; first = this.first) {
      if (first.id !== position && comparePositions(first.id, position) > 0) break
      this.#records.shift()
      this.#use.records--
      if (first.id === position) break
    }
  }

  clear(): void {
    this.#use.records -= this.length
    this.#records.clear()
  }
}
