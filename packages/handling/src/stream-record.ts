/** One record of a data stream, as a handler sees it. */
import { NonRetryableError } from './failures.js'
import { positionTimeMs } from './stream-position.js'

/** An entry as Redis answers it: id, then names and values in turn. */
export type RawRecord = readonly [id: string, fields: readonly string[]]

/** What a record says is not what was asked for. Not retried: the record will not get better. */
export class RecordFormatError extends NonRetryableError {
  readonly dataStreamName: string
  readonly recordId: string
  readonly field: string

  constructor(record: StreamRecord, field: string, problem: string, cause?: unknown) {
    super(
      `record ${record.id} of ${record.dataStreamName}: field ${JSON.stringify(field)} ${problem}`,
      cause === undefined ? undefined : { cause },
    )
    this.name = 'RecordFormatError'
    this.dataStreamName = record.dataStreamName
    this.recordId = record.id
    this.field = field
  }
}

const JSON_FIELD = 'data'
const SHOWN_CHARS = 60

export class StreamRecord {
  readonly id: string
  readonly dataStreamName: string
  readonly #raw: readonly string[]
  #fields: Readonly<Record<string, string>> | undefined

  constructor(dataStreamName: string, [id, raw]: RawRecord) {
    this.id = id
    this.dataStreamName = dataStreamName
    this.#raw = raw
  }

  /** Names and values; of a name that occurs twice the last value. */
  get fields(): Readonly<Record<string, string>> {
    if (this.#fields === undefined) {
      const fields: Record<string, string> = Object.create(null)
      for (let i = 0; i + 1 < this.#raw.length; i += 2)
        fields[this.#raw[i] as string] = this.#raw[i + 1] as string
      this.#fields = fields
    }
    return this.#fields
  }

  /** Names and values in turn, in the order of the entry, every occurrence. */
  get raw(): readonly string[] {
    return this.#raw
  }

  /** When Redis added it, by the server's clock, unless the producer chose the id. */
  get time(): Date {
    return new Date(positionTimeMs(this.id))
  }

  /**
   * Parses a field as JSON: the one that is named, else `data`, else the only one.
   * @throws RecordFormatError, which is not retried: the field is missing or is no JSON.
   */
  json<T = unknown>(field?: string): T {
    const { fields } = this
    const names = Object.keys(fields)
    const name = field ?? (JSON_FIELD in fields || names.length !== 1 ? JSON_FIELD : (names[0] as string))
    const text = fields[name]
    if (text === undefined) {
      throw new RecordFormatError(this, name, `is missing, there is ${names.join(', ') || 'no field at all'}`)
    }
    try {
      return JSON.parse(text) as T
    } catch (error) {
      const shown = text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}...` : text
      throw new RecordFormatError(this, name, `is no JSON (${(error as Error).message}): ${shown}`, error)
    }
  }
}
