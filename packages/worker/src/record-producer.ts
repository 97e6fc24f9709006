/**
 * Adds records to data streams, and the streams to the LBS of a service.
 *
 * Calls for one stream that are made in the same turn of the event loop travel together, in their order. So many
 * records are on their way at once; who adds more waits for room.
 */
import { encodeLbsMessage, type JsonObject, StreamClientError } from '@redis-stream-client/client'
import {
  isCluster,
  LBS_FIELD,
  type RedisLike,
  redisError,
  refuseKeyPrefix,
  Script,
} from '@redis-stream-client/client/internal'
import {
  type ProducerOptions,
  type ResolvedProducerOptions,
  resolveProducerOptions,
} from './producer-options.js'
import {
  type CheckedRecord,
  checkRecord,
  checkStreamName,
  type NewRecord,
  type RecordFields,
} from './producer-record.js'
import { addRecordsLua, announceLua } from './redis/lua.generated.js'
import { Room } from './room.js'
import { WorkerError } from './worker-error.js'
import { resolveWorkerKeys, sharesHashTag, type WorkerKeys } from './worker-keys.js'

export interface AddedRecord {
  readonly id: string
  /** False if the idempotency key was known: `id` is the earlier record's. */
  readonly isNew: boolean
}

export interface AddOptions {
  readonly idempotencyKey?: string | undefined
  /** `Info` of the LBS message, should this record be the one that assigns the stream. */
  readonly info?: JsonObject | undefined
  /** Ends the wait for room: the call rejects and nothing was sent. */
  readonly signal?: AbortSignal | undefined
}

interface Waiting {
  readonly record: CheckedRecord
  readonly resolve: (added: AddedRecord) => void
  readonly reject: (error: unknown) => void
}

interface Outbox {
  info: JsonObject | undefined
  readonly waiting: Waiting[]
  isSending: boolean
}

/** Keeps a script short; Lua hands over about 8000 values at most. */
const RECORDS_PER_CALL = 100
const WORDS_PER_CALL = 6500

const addRecords = new Script(addRecordsLua)
const announce = new Script(announceLua)

export class RecordProducer {
  readonly #redis: RedisLike
  readonly #keys: WorkerKeys
  readonly #options: ResolvedProducerOptions
  readonly #outboxes = new Map<string, Outbox>()
  readonly #room: Room

  /**
   * Works on the connection it is given, which stays the caller's: it is never closed here.
   * @throws StreamClientError SERVICE_NAME_INVALID, OPTION_INVALID (also for a connection with a keyPrefix).
   */
  constructor(redis: RedisLike, service: string, options: ProducerOptions = {}) {
    refuseKeyPrefix(redis)
    this.#redis = redis
    this.#keys = resolveWorkerKeys(service, { onCluster: isCluster(redis) })
    this.#options = resolveProducerOptions(options)
    this.#room = new Room(this.#options.maxInFlight)
  }

  /** Records on their way to Redis. */
  get inFlight(): number {
    return this.#room.taken
  }

  /**
   * Adds one record. Calls for the same stream are executed in their order.
   *
   * Resolves when Redis has it. Rejects with RECORD_INVALID (nothing was sent), with the signal's reason (nothing was
   * sent), with REDIS_ERROR if Redis refuses or does not answer in time: then it may have been added or not, and
   * adding again is safe with an idempotency key.
   */
  async add(dataStreamName: string, fields: RecordFields, options: AddOptions = {}): Promise<AddedRecord> {
    const { idempotencyKey, info, signal } = options
    this.#checkStream(dataStreamName)
    const record = checkRecord({ fields, idempotencyKey }, this.#options.maxRecordBytes)
    await this.#room.enter(signal)
    return await this.#enqueue(dataStreamName, record, info)
  }

  /** As `add`, with the value as JSON in the field `data`, where `record.json()` finds it. */
  addJson(dataStreamName: string, value: unknown, options: AddOptions = {}): Promise<AddedRecord> {
    const text = JSON.stringify(value) as string | undefined
    if (text === undefined) {
      return Promise.reject(new WorkerError('RECORD_INVALID', 'this value has no JSON form'))
    }
    return this.add(dataStreamName, { data: text }, options)
  }

  /**
   * Adds many records, in their order. If one is invalid, none is sent. They are sent in parts: after a REDIS_ERROR
   * the first parts may have been added.
   */
  async addMany(
    dataStreamName: string,
    records: readonly NewRecord[],
    { info, signal }: Pick<AddOptions, 'info' | 'signal'> = {},
  ): Promise<AddedRecord[]> {
    this.#checkStream(dataStreamName)
    const checked = records.map((record) => checkRecord(record, this.#options.maxRecordBytes))
    const added: Promise<AddedRecord>[] = []
    for (const record of checked) {
      try {
        await this.#room.enter(signal)
      } catch (error) {
        await Promise.allSettled(added)
        throw error
      }
      const adding = this.#enqueue(dataStreamName, record, info)
      adding.catch(() => undefined) // Promise.all rejects with the first of them
      added.push(adding)
    }
    return await Promise.all(added)
  }

  /**
   * Assigns a stream to the LBS, if it is not assigned already: owned, or waiting for an owner.
   * Resolves with the id of the LBS entry, or null if there was no need. Rejects as `add` does.
   */
  async announce(dataStreamName: string, info?: JsonObject): Promise<string | null> {
    this.#checkStream(dataStreamName)
    const { announced, checkpoints, lbs, locks } = this.#keys
    const id = await this.#send(`announce ${dataStreamName}`, () =>
      announce.run(
        this.#redis,
        [lbs, locks, announced, checkpoints],
        [dataStreamName, LBS_FIELD, message(dataStreamName, info)],
      ),
    )
    return typeof id === 'string' ? id : null
  }

  #enqueue(
    dataStreamName: string,
    record: CheckedRecord,
    info: JsonObject | undefined,
  ): Promise<AddedRecord> {
    let outbox = this.#outboxes.get(dataStreamName)
    if (outbox === undefined) {
      outbox = { info, waiting: [], isSending: false }
      this.#outboxes.set(dataStreamName, outbox)
    }
    outbox.info ??= info
    const { waiting } = outbox
    const added = new Promise<AddedRecord>((resolve, reject) => waiting.push({ record, resolve, reject }))
    if (!outbox.isSending) {
      outbox.isSending = true
      const opened = outbox
      setImmediate(() => void this.#drain(dataStreamName, opened))
    }
    return added
  }

  /** Sends what waits for a stream, part by part. */
  async #drain(dataStreamName: string, outbox: Outbox): Promise<void> {
    while (outbox.waiting.length > 0) {
      const part = outbox.waiting.splice(0, partLength(outbox.waiting))
      try {
        const added = await this.#addPart(dataStreamName, part, outbox.info)
        for (const [index, { resolve }] of part.entries()) resolve(added[index] as AddedRecord)
      } catch (error) {
        for (const { reject } of part) reject(error)
      }
      for (const _ of part) this.#room.leave()
    }
    outbox.isSending = false
    if (this.#outboxes.get(dataStreamName) === outbox) this.#outboxes.delete(dataStreamName)
  }

  async #addPart(
    dataStreamName: string,
    part: readonly Waiting[],
    info: JsonObject | undefined,
  ): Promise<AddedRecord[]> {
    const keys = this.#keys
    const { announce: when, idempotencyWindowMs, maxLen, mayCutUncommitted } = this.#options
    const [, ...added] = (await this.#send(`add to ${dataStreamName}`, () =>
      addRecords.run(
        this.#redis,
        [
          dataStreamName,
          keys.lbs,
          keys.locks,
          keys.announced,
          keys.checkpoints,
          keys.idempotency(dataStreamName),
          keys.idempotencyTimes(dataStreamName),
        ],
        [
          dataStreamName,
          LBS_FIELD,
          when === 'never' ? '' : message(dataStreamName, info),
          maxLen === null ? '' : String(maxLen),
          mayCutUncommitted ? '1' : '0',
          String(idempotencyWindowMs),
          ...part.flatMap(({ record: { idempotencyKey, words } }) => [
            idempotencyKey,
            String(words.length),
            ...words,
          ]),
        ],
      ),
    )) as [lbsId: unknown, ...added: [id: string, isNew: number][]]
    return added.map(([id, isNew]) => ({ id, isNew: isNew === 1 }))
  }

  async #send<T>(operation: string, command: () => Promise<T>): Promise<T> {
    const { commandTimeoutMs } = this.#options
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${commandTimeoutMs} ms`)), commandTimeoutMs)
    })
    try {
      return await Promise.race([command(), deadline])
    } catch (error) {
      throw redisError(operation, error)
    } finally {
      clearTimeout(timer)
    }
  }

  #checkStream(dataStreamName: string): void {
    checkStreamName(dataStreamName, this.#keys.service)
    if (isCluster(this.#redis) && !sharesHashTag(this.#keys.service, dataStreamName)) {
      throw new StreamClientError(
        'OPTION_INVALID',
        `on Redis Cluster ${dataStreamName} needs the hash tag of its service ${this.#keys.service}`,
        { dataStreamName },
      )
    }
  }
}

function message(dataStreamName: string, info: JsonObject | undefined): string {
  return encodeLbsMessage(info === undefined ? { dataStreamName } : { dataStreamName, info })
}

/** How many of them fit into one call. */
function partLength(waiting: readonly Waiting[]): number {
  let words = 0
  let length = 0
  for (const { record } of waiting) {
    words += record.words.length + 2
    if (length === RECORDS_PER_CALL || (length > 0 && words > WORDS_PER_CALL)) break
    length++
  }
  return length
}
