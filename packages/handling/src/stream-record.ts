/** One record of a data stream, as a handler sees it. Its bytes are what Redis holds, whether they are text or not. */
import { isNonRetryable, NonRetryableError } from './failures.js'
import { positionTimeMs } from './stream-position.js'

/** An entry as Redis answers it: id, then names and values in turn. What is given as text is taken as UTF-8. */
export type RawRecord = readonly [id: string | Buffer, fields: readonly (string | Buffer)[]]

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

const DEFAULT_FIELD = 'data'
const SHOWN_CHARS = 60
/** What a record and each of its words take in memory beside their bytes. */
const RECORD_OVERHEAD_BYTES = 200
const WORD_OVERHEAD_BYTES = 8

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** `Value` is what its handler works with: its JSON, or what `decode` and the schema of the worker make of it. */
export class StreamRecord<Value = unknown> {
  readonly id: string
  readonly dataStreamName: string
  /** All names and values, one after the other. A copy: parts of what was received would keep all of that in memory. */
  readonly #bytes: Buffer
  /** Where each of them ends. */
  readonly #ends: readonly number[]
  readonly #values: ValueReader
  #outcome: ValueOutcome | Promise<ValueOutcome> | undefined
  #raw: readonly string[] | undefined
  #fields: Readonly<Record<string, string>> | undefined

  constructor(dataStreamName: string, [id, fields]: RawRecord, values: ValueReader = JSON_VALUES) {
    this.#values = values
    this.id = typeof id === 'string' ? id : id.toString('latin1')
    this.dataStreamName = dataStreamName
    const ends: number[] = []
    const words: readonly Buffer[] = fields.some(isText) ? fields.map(toBytes) : (fields as Buffer[])
    let end = 0
    for (let i = 0; i < words.length; i++) {
      end += (words[i] as Buffer).length
      ends.push(end)
    }
    const bytes = Buffer.allocUnsafe(end)
    for (let i = 0; i < words.length; i++) bytes.set(words[i] as Buffer, i === 0 ? 0 : ends[i - 1])
    this.#bytes = bytes
    this.#ends = ends
  }

  /** How much memory it takes, roughly. */
  get sizeBytes(): number {
    return RECORD_OVERHEAD_BYTES + WORD_OVERHEAD_BYTES * this.#ends.length + this.#bytes.length
  }

  /** Names and values as text; of a name that occurs twice the last value. Bytes that are no UTF-8 show as U+FFFD. */
  get fields(): Readonly<Record<string, string>> {
    if (this.#fields === undefined) {
      const { raw } = this
      const fields: Record<string, string> = Object.create(null)
      for (let i = 0; i + 1 < raw.length; i += 2) fields[raw[i] as string] = raw[i + 1] as string
      this.#fields = fields
    }
    return this.#fields
  }

  /** Names and values in turn, as text, in the order of the entry, every occurrence. */
  get raw(): readonly string[] {
    this.#raw ??= this.#ends.map((end, index) => this.#bytes.toString('utf8', this.#startOf(index), end))
    return this.#raw
  }

  /** The same as `raw` byte for byte. The buffers are not copies: they must not be changed. */
  get rawBytes(): readonly Buffer[] {
    return this.#ends.map((_, index) => this.#word(index))
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
   * The value of a field as it is in Redis: the field that is named, else `data`, else the only one. The buffer is not a
   * copy: it must not be changed.
   * @throws RecordFormatError, which is not retried: the field is missing.
   */
  bytes(field?: string): Buffer {
    return this.#find(field).value
  }

  /**
   * The value of a field as text. The field is found as by `bytes`.
   * @throws RecordFormatError, which is not retried: the field is missing, or is no UTF-8.
   */
  text(field?: string): string {
    const { name, value } = this.#find(field)
    return this.#decode(name, value)
  }

  /**
   * Parses the value of a field as JSON. The field is found as by `bytes`.
   * @throws RecordFormatError, which is not retried: the field is missing or is no JSON.
   */
  json<T = unknown>(field?: string): T {
    const { name, value } = this.#find(field)
    const text = this.#decode(name, value)
    try {
      return JSON.parse(text) as T
    } catch (error) {
      const shown = text.length > SHOWN_CHARS ? `${text.slice(0, SHOWN_CHARS)}...` : text
      throw new RecordFormatError(this, name, `is no JSON (${(error as Error).message}): ${shown}`, error)
    }
  }

  #startOf(index: number): number {
    return index === 0 ? 0 : (this.#ends[index - 1] as number)
  }

  #word(index: number): Buffer {
    return this.#bytes.subarray(this.#startOf(index), this.#ends[index])
  }

  #find(field: string | undefined): { name: string; value: Buffer } {
    const name = field ?? DEFAULT_FIELD
    const value = this.#valueOf(name)
    if (value !== null) return { name, value }
    const names = Object.keys(this.fields)
    if (field === undefined && names.length === 1) return this.#find(names[0])
    throw new RecordFormatError(this, name, `is missing, there is ${names.join(', ') || 'no field at all'}`)
  }

  /** Of a name that occurs twice the last value; null if there is none. */
  #valueOf(name: string): Buffer | null {
    const wanted = Buffer.from(name)
    for (let i = this.#ends.length - 2; i >= 0; i -= 2) {
      if (this.#word(i).equals(wanted)) return this.#word(i + 1)
    }
    return null
  }

  #decode(name: string, value: Buffer): string {
    try {
      return strictUtf8.decode(value)
    } catch (error) {
      throw new RecordFormatError(this, name, 'is no UTF-8: read it with bytes()', error)
    }
  }
}

function isText(word: string | Buffer): word is string {
  return typeof word === 'string'
}

function toBytes(word: string | Buffer): Buffer {
  return typeof word === 'string' ? Buffer.from(word) : word
}
