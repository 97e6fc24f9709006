/** Records on their way in: checked before they are sent, so that one bad record never spoils a batch. */
import { isUint8Array } from 'node:util/types'
import { reservedNameProblem } from '@redis-stream-client/client/internal'
import { WorkerError } from '../contract/worker-error.js'

/** A text is sent as UTF-8, a number as its decimal form, bytes as they are. */
export type RecordFields = Readonly<Record<string, string | number | Uint8Array>>

export interface NewRecord {
  readonly fields: RecordFields
  /** A second record with this key, within the window, is not added. */
  readonly idempotencyKey?: string | undefined
}

/** A record as the script takes it. */
export interface CheckedRecord {
  readonly words: readonly (string | Buffer)[]
  /** Of all words. */
  readonly bytes: number
  readonly idempotencyKey: string
}

/** Lua hands over about 8000 values at most. */
const GREATEST_FIELDS = 3000
const GREATEST_KEY_BYTES = 1024
const GREATEST_NAME_BYTES = 1024

/** @throws WorkerError RECORD_INVALID: what is wrong with it. */
export function checkRecord(record: NewRecord, maxRecordBytes: number): CheckedRecord {
  const { fields, idempotencyKey = '' } = record
  if (typeof fields !== 'object' || fields === null || Array.isArray(fields)) {
    throw invalid('a record needs an object of fields')
  }
  const names = Object.keys(fields)
  if (names.length === 0) throw invalid('a record needs at least one field')
  if (names.length > GREATEST_FIELDS) throw invalid(`a record has at most ${GREATEST_FIELDS} fields`)
  const words = names.flatMap((name) => [wellFormed(name, 'the name of a field'), toWord(name, fields[name])])
  const bytes = words.reduce((sum, word) => sum + Buffer.byteLength(word), 0)
  if (bytes > maxRecordBytes) {
    throw invalid(`the record has ${bytes} bytes, at most ${maxRecordBytes} are allowed (maxRecordBytes)`)
  }
  if (typeof idempotencyKey !== 'string' || Buffer.byteLength(idempotencyKey) > GREATEST_KEY_BYTES) {
    throw invalid(`an idempotency key is a text of at most ${GREATEST_KEY_BYTES} bytes`)
  }
  if (record.idempotencyKey === '') throw invalid('an idempotency key must not be empty')
  return { words, bytes, idempotencyKey }
}

/** @throws WorkerError RECORD_INVALID: it is no name of a data stream, or that of a key of the service. */
export function checkStreamName(dataStreamName: string, service: string): void {
  if (typeof dataStreamName !== 'string' || dataStreamName === '') {
    throw invalid('a data stream needs a name')
  }
  if (Buffer.byteLength(wellFormed(dataStreamName, 'the name of the stream')) > GREATEST_NAME_BYTES) {
    throw invalid(`the name of a data stream has at most ${GREATEST_NAME_BYTES} bytes`)
  }
  const reserved = reservedNameProblem(service, dataStreamName)
  if (reserved !== null) throw invalid(reserved)
}

function toWord(name: string, value: unknown): string | Buffer {
  // A copy: it is sent later, and the caller may use the memory again.
  if (isUint8Array(value)) return Buffer.from(value)
  if (typeof value === 'number' && Number.isFinite(value)) return String(value)
  if (typeof value !== 'string') {
    throw invalid(
      `field ${JSON.stringify(name)} must be a text, a finite number, a Buffer or a Uint8Array, got ${typeof value}`,
    )
  }
  return wellFormed(value, `field ${JSON.stringify(name)}`)
}

function wellFormed(text: string, what: string): string {
  if (/\p{Surrogate}/u.test(text))
    throw invalid(`${what} is not well-formed: it holds half of a surrogate pair`)
  return text
}

function invalid(problem: string): WorkerError {
  return new WorkerError('RECORD_INVALID', problem)
}
