/** The records of one data stream that wait to be sent, in their order. */
import type { JsonObjectWithBigInts } from '@redis-stream-client/client'
import { Fifo } from '@redis-stream-client/notifs/internal'
import type { CheckedRecord } from './producer-record.js'

export interface AddedRecord {
  readonly id: string
  /** False if the idempotency key was known: `id` is the earlier record's. */
  readonly isNew: boolean
}

/** Records that are one sequence: after one that may be missing none is sent. */
export interface RecordSequence {
  failure: Error | null
  /** Records of it that were sent and have no answer, or were refused. */
  unsure: number
}

export interface WaitingRecord {
  readonly record: CheckedRecord
  readonly sequence: RecordSequence | null
  readonly resolve: (added: AddedRecord) => void
  readonly reject: (error: unknown) => void
}

/** Keeps a script short; Lua hands over about 8000 values at most. */
const RECORDS_PER_PART = 100
const WORDS_PER_PART = 6500
const BYTES_PER_PART = 1024 * 1024

export class Outbox {
  info: JsonObjectWithBigInts | undefined
  isSending = false
  readonly #waiting = new Fifo<WaitingRecord>()

  push(waiting: WaitingRecord): void {
    this.#waiting.push(waiting)
  }

  /** Takes as many as fit into one call: at least one, if any waits. */
  takePart(): WaitingRecord[] {
    let words = 0
    let bytes = 0
    let length = 0
    for (const { record } of this.#waiting.peek(RECORDS_PER_PART)) {
      words += record.words.length + 2
      bytes += record.bytes
      if (length > 0 && (words > WORDS_PER_PART || bytes > BYTES_PER_PART)) break
      length++
    }
    return this.#waiting.take(length)
  }

  /** Takes those that must not be sent any more, because a record before them in their sequence has failed. */
  takeFailed(): WaitingRecord[] {
    const failed: WaitingRecord[] = []
    for (const waiting of this.#waiting.take(this.#waiting.length)) {
      if (waiting.sequence !== null && waiting.sequence.failure !== null) failed.push(waiting)
      else this.#waiting.push(waiting)
    }
    return failed
  }
}
