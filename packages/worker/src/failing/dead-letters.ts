/** The records that could not be handled: the stream `<service>-dead-records`. */
import { isCluster, type RedisLike, refuseKeyPrefix, Script } from '@redis-stream-client/client/internal'
import { type DeadRecord, DeadRecords, type ListOptions } from '@redis-stream-client/handling'
import { WorkerError } from '../contract/worker-error.js'
import { checkStreamName } from '../producing/producer-record.js'
import { replayDeadLua } from '../redis/lua.generated.js'
import { resolveWorkerKeys, type WorkerKeys } from '../redis/worker-keys.js'
import { type ReplayManyOptions, type ReplayProgress, replayMany } from './bulk-replay.js'

const replayDead = new Script(replayDeadLua)
/** Lua hands over about 8000 values at most. */
const GREATEST_SCRIPT_WORDS = 7000
/** More would keep Redis from its other clients for too long. */
const GREATEST_SCRIPT_BYTES = 1024 * 1024

export class DeadLetters {
  readonly #redis: RedisLike
  readonly #keys: WorkerKeys
  readonly #records: DeadRecords

  /**
   * Works on the connection it is given, which stays the caller's: it is never closed here.
   * @throws StreamClientError SERVICE_NAME_INVALID, or OPTION_INVALID for a connection with a keyPrefix.
   */
  constructor(redis: RedisLike, service: string) {
    refuseKeyPrefix(redis)
    this.#redis = redis
    this.#keys = resolveWorkerKeys(service, { onCluster: isCluster(redis) })
    this.#records = new DeadRecords(redis, this.#keys.deadRecords)
  }

  /**
   * The oldest first. Fewer than `count` where letters are large: there are no more when the list is empty.
   * Rejects with OPTION_INVALID, REDIS_ERROR.
   */
  async list(options: ListOptions = {}): Promise<DeadRecord[]> {
    return await this.#records.list(options)
  }

  /** One letter. Rejects with DEAD_LETTER_GONE, REDIS_ERROR. */
  async find(id: string): Promise<DeadRecord> {
    const letter = await this.#records.find('find', id)
    if (letter === null) throw gone(id)
    return letter
  }

  /** How many there are. Rejects with REDIS_ERROR. */
  async count(): Promise<number> {
    return await this.#records.count()
  }

  /**
   * Adds the record to the end of its data stream again, byte for byte, and drops the dead letter, in one step; a record
   * with more than 3,500 fields, or longer than a mebibyte, in two, so that it can be there twice if the process dies or another replays it too. It gets a new id, and
   * comes after everything that is there: replay is for records whose order does not matter any more. The data
   * stream must still be assigned, or be announced anew.
   *
   * Resolves with the new record id. Rejects with DEAD_LETTER_GONE (replayed or dropped before), RECORD_INVALID (its
   * data stream has the name of a key of the service), REDIS_ERROR.
   */
  async replay(id: string): Promise<string> {
    const letter = await this.#records.find('replay', id)
    if (letter === null) throw gone(id)
    const { dataStreamName } = letter
    checkStreamName(dataStreamName, this.#keys.service)
    const fields = letter.rawFields.flat()
    const bytes = fields.reduce((sum, word) => sum + word.length, 0)
    if (fields.length > GREATEST_SCRIPT_WORDS || bytes > GREATEST_SCRIPT_BYTES) {
      return await this.#replayLarge(id, dataStreamName, fields)
    }
    const added = await this.#records.run('replay', () =>
      replayDead.run(this.#redis, [this.#keys.deadRecords, dataStreamName], [id, ...fields]),
    )
    if (typeof added !== 'string') throw gone(id)
    return added
  }

  /** No script can pass on so many words, and so many bytes would keep Redis busy for too long. */
  async #replayLarge(id: string, dataStreamName: string, fields: readonly Buffer[]): Promise<string> {
    const added = await this.#records.run('replay', () => this.#redis.xadd(dataStreamName, '*', ...fields))
    if (await this.#records.remove('replay', id)) return added as string
    await this.#records.run('replay', () => this.#redis.xdel(dataStreamName, added as string))
    throw gone(id)
  }

  /**
   * Replays many letters, as `replay` does each, in their order, one after the other. Only those that are there now: what fails
   * again is not replayed again. A page of letters is in memory at a time.
   *
   * Resolves when all are done, `count` were replayed or the signal has aborted; `after` says where another call can go on.
   * Rejects with REDIS_ERROR, OPTION_INVALID, and what `onProgress` throws.
   */
  async replayMany(options: ReplayManyOptions = {}): Promise<ReplayProgress> {
    return await replayMany(this.#records, (id) => this.replay(id), options)
  }

  /** Removes a dead letter for good. Rejects with DEAD_LETTER_GONE, REDIS_ERROR. */
  async drop(id: string): Promise<void> {
    if (!(await this.#records.remove('drop', id))) throw gone(id)
  }
}

function gone(id: string): WorkerError {
  return new WorkerError('DEAD_LETTER_GONE', `there is no dead letter ${id}`, { facts: { id } })
}
