/** One record of a data stream, as a handler sees it. */
import { isNonRetryable, NonRetryableError } from './failures.js'
import { positionTimeMs } from './stream-position.js'

/** An entry as Redis answers it: id, then names and values in turn. */
export type RawRecord = readonly [id: string, fields: readonly string[]]

/** The value of a record, or why there is none. */
export type ValueOutcome = { readonly value: unknown } | { readonly error: unknown }

/** Makes the value of a record; neither throws nor rejects. */
export interface ValueReader {
  read(record: StreamRecord): ValueOutcome | Promise<ValueOutcome>
}

const JSON_VALUES: ValueReader = {
  read: (record) => {
    try {
      return { value: record.json() }
    } catch (error) {
      return { error }
    }
  },
}

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

/** `Value` is what its handler works with: its JSON, or what `decode` and the schema of the worker make of it. */
export class StreamRecord<Value = unknown> {
  readonly id: string
  readonly dataStreamName: string
  readonly #raw: readonly string[]
  readonly #values: ValueReader
  #outcome: ValueOutcome | Promise<ValueOutcome> | undefined
  #fields: Readonly<Record<string, string>> | undefined

  constructor(dataStreamName: string, [id, raw]: RawRecord, values: ValueReader = JSON_VALUES) {
    this.#values = values
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
   * What the record says, as `decode` and the schema of the worker make of it. Without them it is `json()`.
   * @throws RecordValueError, RecordFormatError: it cannot be read; then no handler is called with the record. TypeError: it
   * is read asynchronously and not there yet, which happens in `isLast` alone.
   */
  get value(): Value {
    this.#outcome ??= this.#values.read(this)
    if (this.#outcome instanceof Promise) {
      throw new TypeError(
        'the value of a record that is read asynchronously is there when its handler is called',
      )
    }
    if ('error' in this.#outcome) throw this.#outcome.error
    return this.#outcome.value as Value
  }

  /** Reads the value; answers a promise if there is something to wait for. It does not reject. */
  readValue(): Promise<void> | undefined {
    this.#outcome ??= this.#values.read(this)
    if (!(this.#outcome instanceof Promise)) return undefined
    return this.#outcome.then((outcome) => {
      this.#outcome = outcome
    })
  }

  /** Why there is no value; null if there is one, or nobody has asked. What may get better is read again the next time. */
  takeValueError(): { readonly error: unknown } | null {
    const outcome = this.#outcome
    if (outcome === undefined || outcome instanceof Promise || !('error' in outcome)) return null
    if (!isNonRetryable(outcome.error)) this.#outcome = undefined
    return outcome
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
