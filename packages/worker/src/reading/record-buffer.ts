/** Records of one stream that were read and not handled yet, in order. */

import { comparePositions, type StreamRecord } from '@redis-stream-client/handling'
import { Fifo } from '@redis-stream-client/notifs/internal'

/** How much all buffers of a worker hold. */
export interface BufferUse {
  records: number
  bytes: number
}

export class RecordBuffer {
  readonly #use: BufferUse
  readonly #records = new Fifo<StreamRecord>()
  #bytes = 0

  constructor(use: BufferUse) {
    this.#use = use
  }

  get length(): number {
    return this.#records.length
  }

  /** What the records take in memory. */
  get bytes(): number {
    return this.#bytes
  }

  get first(): StreamRecord | undefined {
    return this.#records.first
  }

  push(record: StreamRecord): void {
    this.#records.push(record)
    this.#count(1, record.sizeBytes)
  }

  /** The first records, at most `count` and `bytes` of them: at least one, if there is one. */
  peek(count: number, bytes: number = Infinity): StreamRecord[] {
    const records = this.#records.peek(count)
    let sum = 0
    const end = records.findIndex((record, index) => {
      sum += record.sizeBytes
      return index > 0 && sum > bytes
    })
    return end === -1 ? records : records.slice(0, end)
  }

  /** Drops the records up to and including this position. */
  dropThrough(position: string): void {
    for (let first = this.first; first !== undefined; first = this.first) {
      if (first.id !== position && comparePositions(first.id, position) > 0) break
      this.#records.shift()
      this.#count(-1, -first.sizeBytes)
      if (first.id === position) break
    }
  }

  clear(): void {
    this.#count(-this.length, -this.#bytes)
    this.#records.clear()
  }

  #count(records: number, bytes: number): void {
    this.#use.records += records
    this.#use.bytes += bytes
    this.#bytes += bytes
  }
}
