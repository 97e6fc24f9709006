/** The records that could not be handled: the stream `<service>-dead-records`. */
import { StreamClientError } from '@redis-stream-client/client'
import {
  isCluster,
  type RedisLike,
  redisError,
  refuseKeyPrefix,
  Script,
} from '@redis-stream-client/client/internal'
import { checkStreamName } from './producer-record.js'
import { replayDeadLua } from './redis/lua.generated.js'
import { WorkerError } from './worker-error.js'
import { resolveWorkerKeys, type WorkerKeys } from './worker-keys.js'

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

const replayDead = new Script(replayDeadLua)
/** Lua hands over about 8000 values at most. */
const GREATEST_SCRIPT_WORDS = 7000
const DEFAULT_COUNT = 100
const GREATEST_COUNT = 10_000
/** Letters read at a time, and after how much no more are read for one list. */
const LETTERS_PER_READ = 20
const GREATEST_LIST_CHARS = 16 * 1024 * 1024

export class DeadLetters {
  readonly #redis: RedisLike
  readonly #keys: WorkerKeys

  /**
   * Works on the connection it is given, which stays the caller's: it is never closed here.
   * @throws StreamClientError SERVICE_NAME_INVALID, or OPTION_INVALID for a connection with a keyPrefix.
   */
  constructor(redis: RedisLike, service: string) {
    refuseKeyPrefix(redis)
    this.#redis = redis
    this.#keys = resolveWorkerKeys(service, { onCluster: isCluster(redis) })
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
      const entries = await this.#run('list', () =>
        this.#redis.xrange(this.#keys.deadRecords, from, '+', 'COUNT', wanted),
      )
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
    return Number(await this.#run('count', () => this.#redis.xlen(this.#keys.deadRecords)))
  }

  /**
   * Adds the record to the end of its data stream again and drops the dead letter, in one step; a record with more than
   * 3,500 fields in two, so that it can be there twice if the process dies or another replays it too. It gets a new id, and
   * comes after everything that is there: replay is for records whose order does not matter any more. The data
   * stream must still be assigned, or be announced anew.
   *
   * Resolves with the new record id. Rejects with DEAD_LETTER_GONE (replayed or dropped before), RECORD_INVALID (its
   * data stream has the name of a key of the service), REDIS_ERROR.
   */
  async replay(id: string): Promise<string> {
    const [letter] = await this.#run('replay', () => this.#redis.xrange(this.#keys.deadRecords, id, id))
    if (letter === undefined) throw gone(id)
    const { dataStreamName } = readDeadRecord(letter)
    checkStreamName(dataStreamName, this.#keys.service)
    const fields = JSON.parse(rawField(letter, 'fields')) as string[]
    if (fields.length > GREATEST_SCRIPT_WORDS) return await this.#replayLarge(id, dataStreamName, fields)
    const added = await this.#run('replay', () =>
      replayDead.run(this.#redis, [this.#keys.deadRecords, dataStreamName], [id, ...fields]),
    )
    if (typeof added !== 'string') throw gone(id)
    return added
  }

  /** No script can pass on so many words. */
  async #replayLarge(id: string, dataStreamName: string, fields: readonly string[]): Promise<string> {
    const added = await this.#run('replay', () => this.#redis.xadd(dataStreamName, '*', ...fields))
    if (await this.#remove('replay', id)) return added as string
    await this.#run('replay', () => this.#redis.xdel(dataStreamName, added as string))
    throw gone(id)
  }

  /** Removes a dead letter for good. Rejects with DEAD_LETTER_GONE, REDIS_ERROR. */
  async drop(id: string): Promise<void> {
    if (!(await this.#remove('drop', id))) throw gone(id)
  }

  /** False if it is not there. The caller's connection may answer numbers as text (stringNumbers). */
  async #remove(operation: string, id: string): Promise<boolean> {
    return Number(await this.#run(operation, () => this.#redis.xdel(this.#keys.deadRecords, id))) === 1
  }

  async #run<T>(operation: string, command: () => Promise<T>): Promise<T> {
    try {
      return await command()
    } catch (error) {
      throw redisError(`${operation} of ${this.#keys.deadRecords}`, error)
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

function gone(id: string): WorkerError {
  return new WorkerError('DEAD_LETTER_GONE', `there is no dead letter ${id}`, { facts: { id } })
}
