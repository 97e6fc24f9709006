/** Records of one stream that were read and not handled yet, in order. */
import { comparePositions } from './stream-position.js'
import type { StreamRecord } from './stream-record.js'

/** How many records all buffers of a worker hold. */
export interface BufferUse {
  records: number
}

const COMPACT_AT = 256

export class RecordBuffer {
  readonly #use: BufferUse
  #records: StreamRecord[] = []
  #head = 0

  constructor(use: BufferUse) {
    this.#use = use
  }

  get length(): number {
    return this.#records.length - this.#head
  }

  get first(): StreamRecord | undefined {
    return this.#records[this.#head]
  }

  push(record: StreamRecord): void {
    this.#records.push(record)
    this.#use.records++
  }

  peek(count: number): StreamRecord[] {
    return this.#records.slice(this.#head, this.#head + count)
  }

  /** Drops the records up to and including this position. */
  dropThrough(position: string): void {
    for (let first = this.first; first !== undefined; first = this.first) {
      if (first.id !== position && comparePositions(first.id, position) > 0) break
      this.#head++
      this.#use.records--
      if (first.id === position) break
    }
    if (this.#head >= COMPACT_AT || this.#head === this.#records.length) {
      this.#records = this.#records.slice(this.#head)
      this.#head = 0
    }
  }

  clear(): void {
    this.#use.records -= this.length
    this.#records = []
    this.#head = 0
  }
}
