/** The records that could not be handled, kept in a stream: reading, counting and removing them. */
import {
  decodeLetterFields,
  listLetters,
  pairsOf,
  type RawLetter,
  type RedisLike,
  redisError,
} from '@redis-stream-client/client/internal'

/** A record in the dead letters. */
export interface DeadRecord {
  /** Of the dead letter itself: what `replay` and `drop` take. */
  readonly id: string
  readonly dataStreamName: string
  /** Of the record in its data stream. */
  readonly recordId: string
  /** Names and values as text; of a name that occurs twice the last value. */
  readonly fields: Readonly<Record<string, string>>
  /** The fields in their order as bytes, which need not be UTF-8; a name may occur more than once. */
  readonly rawFields: readonly (readonly [name: Buffer, value: Buffer])[]
  readonly error: string
  readonly attempts: number
  readonly firstAtMs: number
  readonly lastAtMs: number
  /** Client id of the worker that gave up. */
  readonly owner: string
}

export interface ListOptions {
  /** At most so many; default 100, at most 10000. */
  readonly count?: number | undefined
  /** Only those after this dead letter: the last id of the page before. */
  readonly after?: string | undefined
}

export class DeadRecords {
  readonly #redis: RedisLike
  readonly #key: string

  /** Works on the connection it is given, which is never closed here. */
  constructor(redis: RedisLike, key: string) {
    this.#redis = redis
    this.#key = key
  }

  /**
   * The oldest first. Fewer than `count` where letters are large: there are no more when the list is empty.
   * Rejects with OPTION_INVALID, REDIS_ERROR.
   */
  async list(options: ListOptions = {}): Promise<DeadRecord[]> {
    return await listLetters(options, (start, count) => this.#read('list', start, '+', count), readDeadRecord)
  }

  /** How many there are. Rejects with REDIS_ERROR. */
  async count(): Promise<number> {
    return Number(await this.run('count', () => this.#redis.xlen(this.#key)))
  }

  /** The id of the newest; null if there is none. Rejects with REDIS_ERROR. */
  async lastId(): Promise<string | null> {
    const [entry] = await this.run('list', () => this.#redis.xrevrange(this.#key, '+', '-', 'COUNT', 1))
    return entry?.[0] ?? null
  }

  /** Null if it is not there. Rejects with REDIS_ERROR. */
  async find(operation: string, id: string): Promise<DeadRecord | null> {
    const [entry] = await this.#read(operation, id, id, 1)
    return entry === undefined ? null : readDeadRecord(entry)
  }

  /** False if it is not there. The caller's connection may answer numbers as text (stringNumbers). */
  async remove(operation: string, id: string): Promise<boolean> {
    return Number(await this.run(operation, () => this.#redis.xdel(this.#key, id))) === 1
  }

  async #read(operation: string, from: string, to: string, count: number): Promise<RawLetter[]> {
    const entries = await this.run(operation, () =>
      this.#redis.xrangeBuffer(this.#key, from, to, 'COUNT', count),
    )
    return entries as unknown as RawLetter[]
  }

  /** Translates what the command rejects with. */
  async run<T>(operation: string, command: () => Promise<T>): Promise<T> {
    try {
      return await command()
    } catch (error) {
      throw redisError(`${operation} of ${this.#key}`, error)
    }
  }
}

function readDeadRecord([id, words]: RawLetter): DeadRecord {
  const letter = new Map(pairsOf(words).map(([name, value]) => [name.toString(), value]))
  const text = (name: string): string => letter.get(name)?.toString() ?? ''
  const rawFields = decodeLetterFields(letter.get('fields'))
  const fields: Record<string, string> = Object.create(null)
  for (const [name, value] of rawFields) fields[name.toString()] = value.toString()
  return {
    id: id.toString(),
    dataStreamName: text('stream'),
    recordId: text('id'),
    fields,
    rawFields,
    error: text('error'),
    attempts: Number(text('attempts')),
    firstAtMs: Number(text('firstAt')),
    lastAtMs: Number(text('lastAt')),
    owner: text('owner'),
  }
}
