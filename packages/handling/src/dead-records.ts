/** The records that could not be handled, kept in a stream: reading, counting and removing them. */
import { StreamClientError } from '@redis-stream-client/client'
import { type RedisLike, redisError } from '@redis-stream-client/client/internal'

/** A record in the dead letters. */
export interface DeadRecord {
  /** Of the dead letter itself: what `replay` and `drop` take. */
  readonly id: string
  readonly dataStreamName: string
  /** Of the record in its data stream. */
  readonly recordId: string
  readonly fields: Readonly<Record<string, string>>
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

const DEFAULT_COUNT = 100
const GREATEST_COUNT = 10_000
/** Letters read at a time, and after how much no more are read for one list. */
const LETTERS_PER_READ = 20
const GREATEST_LIST_CHARS = 16 * 1024 * 1024

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
  async list({ after, count = DEFAULT_COUNT }: ListOptions = {}): Promise<DeadRecord[]> {
    if (!Number.isSafeInteger(count) || count < 1 || count > GREATEST_COUNT) {
      throw new StreamClientError(
        'OPTION_INVALID',
        `count must be a whole number from 1 to ${GREATEST_COUNT}`,
      )
    }
    const letters: DeadRecord[] = []
    let start = after === undefined ? '-' : `(${after}`
    for (let chars = 0; letters.length < count && chars < GREATEST_LIST_CHARS; ) {
      const wanted = Math.min(LETTERS_PER_READ, count - letters.length)
      const from = start
      const entries = await this.run('list', () => this.#redis.xrange(this.#key, from, '+', 'COUNT', wanted))
      for (const entry of entries) {
        chars += rawField(entry, 'fields').length
        letters.push(readDeadRecord(entry))
      }
      if (entries.length < wanted) break
      start = `(${letters.at(-1)?.id}`
    }
    return letters
  }

  /** How many there are. Rejects with REDIS_ERROR. */
  async count(): Promise<number> {
    return Number(await this.run('count', () => this.#redis.xlen(this.#key)))
  }

  /** Null if it is not there. Rejects with REDIS_ERROR. */
  async find(operation: string, id: string): Promise<{ record: DeadRecord; fields: string[] } | null> {
    const [entry] = await this.run(operation, () => this.#redis.xrange(this.#key, id, id))
    if (entry === undefined) return null
    return { record: readDeadRecord(entry), fields: JSON.parse(rawField(entry, 'fields')) as string[] }
  }

  /** False if it is not there. The caller's connection may answer numbers as text (stringNumbers). */
  async remove(operation: string, id: string): Promise<boolean> {
    return Number(await this.run(operation, () => this.#redis.xdel(this.#key, id))) === 1
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

type RawEntry = [id: string, fields: string[]]

function readDeadRecord(entry: RawEntry): DeadRecord {
  const pairs = JSON.parse(rawField(entry, 'fields')) as string[]
  const fields: Record<string, string> = Object.create(null)
  for (let i = 0; i + 1 < pairs.length; i += 2) fields[pairs[i] as string] = pairs[i + 1] as string
  return {
    id: entry[0],
    dataStreamName: rawField(entry, 'stream'),
    recordId: rawField(entry, 'id'),
    fields,
    error: rawField(entry, 'error'),
    attempts: Number(rawField(entry, 'attempts')),
    firstAtMs: Number(rawField(entry, 'firstAt')),
    lastAtMs: Number(rawField(entry, 'lastAt')),
    owner: rawField(entry, 'owner'),
  }
}

function rawField([, fields]: RawEntry, name: string): string {
  for (let i = 0; i + 1 < fields.length; i += 2) {
    if (fields[i] === name) return fields[i + 1] as string
  }
  return name === 'fields' ? '[]' : ''
}
