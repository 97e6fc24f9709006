/**
 * Adds records to data streams, and the streams to the LBS of a service.
 *
 * Calls for one stream that are made in the same turn of the event loop travel together, in their order. The records on
 * their way at once are limited; further calls wait for room.
 */
import { encodeLbsMessage, type JsonObjectWithBigInts, StreamClientError } from '@redis-stream-client/client'
import {
  isCluster,
  LBS_FIELD,
  type RedisLike,
  redisError,
  refuseKeyPrefix,
  Script,
  SentBytes,
} from '@redis-stream-client/client/internal'
import { Room } from '@redis-stream-client/handling'
import { WorkerError } from '../contract/worker-error.js'
import { addRecordsLua, announceLua } from '../redis/lua.generated.js'
import { resolveWorkerKeys, sharesHashTag, type WorkerKeys } from '../redis/worker-keys.js'
import { FittingRecords } from './fitting-records.js'
import { type AddedRecord, Outbox, type RecordSequence, type WaitingRecord } from './outbox.js'
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

export interface AddOptions<Info = JsonObjectWithBigInts> {
  readonly idempotencyKey?: string | undefined
  /** `Info` of the LBS message, should this record be the one that assigns the stream. */
  readonly info?: Info | undefined
  /** Ends the wait for room: the call rejects and nothing was sent. */
  readonly signal?: AbortSignal | undefined
}

const addRecords = new Script(addRecordsLua)
const announce = new Script(announceLua)

/** `Input` is what `schema` takes and `Info` what `infoSchema` does, where they are given. */
export class RecordProducer<Input = unknown, Info = JsonObjectWithBigInts> {
  readonly #redis: RedisLike
  readonly #keys: WorkerKeys
  readonly #options: ResolvedProducerOptions
  readonly #outboxes = new Map<string, Outbox>()
  readonly #room: Room
  readonly #fitting: FittingRecords | null
  readonly #sent: SentBytes
  /** Commands whose deadline has passed and that ioredis still keeps. */
  #overdue = 0

  /**
   * Works on the connection it is given, which stays the caller's: it is never closed here.
   * @throws StreamClientError SERVICE_NAME_INVALID, OPTION_INVALID (also for a connection with a keyPrefix).
   */
  constructor(redis: RedisLike, service: string, options: ProducerOptions<Input, Info> = {}) {
    refuseKeyPrefix(redis)
    this.#redis = redis
    this.#sent = new SentBytes(redis)
    this.#keys = resolveWorkerKeys(service, { onCluster: isCluster(redis) })
    this.#options = resolveProducerOptions(options)
    const { infoSchema, maxInFlight, maxInFlightBytes, values } = this.#options
    this.#fitting = values === null && infoSchema === null ? null : new FittingRecords(values, infoSchema)
    this.#room = new Room({ records: maxInFlight, bytes: maxInFlightBytes })
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
  async add(
    dataStreamName: string,
    fields: RecordFields,
    options: AddOptions<Info> = {},
  ): Promise<AddedRecord> {
    const { idempotencyKey, signal } = options
    const info = options.info as JsonObjectWithBigInts | undefined
    this.#checkStream(dataStreamName)
    const record = checkRecord({ fields, idempotencyKey }, this.#options.maxRecordBytes)
    const fitting = this.#fitting?.check(dataStreamName, [record], this.#used(info))
    if (fitting !== undefined) await fitting
    await this.#enter(record, signal)
    return await this.#enqueue(dataStreamName, record, info, null)
  }

  /** As `add`, with the value as JSON in the field `data`, where `record.json()` finds it. */
  addJson(dataStreamName: string, value: Input, options: AddOptions<Info> = {}): Promise<AddedRecord> {
    const text = JSON.stringify(value) as string | undefined
    if (text === undefined) {
      return Promise.reject(new WorkerError('RECORD_INVALID', 'this value has no JSON form'))
    }
    return this.add(dataStreamName, { data: text }, options)
  }

  /**
   * Adds many records, in their order. If one is invalid, none is sent.
   *
   * They are sent in parts, each when the one before is in Redis, so that whatever happens those in Redis are the first
   * ones, without a hole. Rejects as `add` does; a REDIS_ERROR says how many were added (`added`) and how many after them
   * may have been (`unsure`). If the signal aborts, those that had room by then are added and the others are not.
   */
  async addMany(
    dataStreamName: string,
    records: readonly NewRecord[],
    options: Pick<AddOptions<Info>, 'info' | 'signal'> = {},
  ): Promise<AddedRecord[]> {
    const { signal } = options
    const info = options.info as JsonObjectWithBigInts | undefined
    this.#checkStream(dataStreamName)
    const checked = records.map((record) => checkRecord(record, this.#options.maxRecordBytes))
    const fitting = this.#fitting?.check(dataStreamName, checked, this.#used(info))
    if (fitting !== undefined) await fitting
    const sequence: RecordSequence = { failure: null, unsure: 0 }
    const adding: Promise<AddedRecord>[] = []
    for (const record of checked) {
      try {
        await this.#enter(record, signal)
      } catch (error) {
        await Promise.allSettled(adding)
        if (signal?.aborted) throw error
        sequence.failure ??= error as Error
      }
      if (sequence.failure !== null) break
      adding.push(this.#enqueue(dataStreamName, record, info, sequence))
    }
    const results = await Promise.allSettled(adding)
    const added = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    if (sequence.failure === null) return added
    throw partlyAdded(dataStreamName, records.length, added.length, sequence as FailedSequence)
  }

  /**
   * Assigns a stream to the LBS, if it is not assigned already: owned, or waiting for an owner.
   * Resolves with the id of the LBS entry, or null if there was no need. Rejects as `add` does.
   */
  async announce(dataStreamName: string, info?: Info): Promise<string | null> {
    const given = info as JsonObjectWithBigInts | undefined
    this.#checkStream(dataStreamName)
    const fitting = this.#fitting?.check(dataStreamName, [], { value: given })
    if (fitting !== undefined) await fitting
    const { announced, checkpoints, lbs, locks } = this.#keys
    const id = await this.#withDeadline(
      `announce ${dataStreamName}`,
      announce.run(
        this.#redis,
        [lbs, locks, announced, checkpoints],
        [dataStreamName, LBS_FIELD, message(dataStreamName, given)],
      ),
    )
    return typeof id === 'string' ? id : null
  }

  /** The Info that an added record may assign its stream with; null if records never do. */
  #used(
    info: JsonObjectWithBigInts | undefined,
  ): { readonly value: JsonObjectWithBigInts | undefined } | null {
    return this.#options.announce === 'never' ? null : { value: info }
  }

  /** Waits for room; rejects at once if commands without an answer fill it, because that may last until Redis is back. */
  async #enter({ bytes }: CheckedRecord, signal: AbortSignal | undefined): Promise<void> {
    if (this.#overdue > 0 && this.#room.isFull(bytes)) throw this.#noAnswer()
    await this.#room.enter(bytes, signal)
  }

  #enqueue(
    dataStreamName: string,
    record: CheckedRecord,
    info: JsonObjectWithBigInts | undefined,
    sequence: RecordSequence | null,
  ): Promise<AddedRecord> {
    const outbox = this.#outboxes.get(dataStreamName) ?? new Outbox()
    this.#outboxes.set(dataStreamName, outbox)
    outbox.info ??= info
    const added = new Promise<AddedRecord>((resolve, reject) => {
      outbox.push({ record, sequence, resolve, reject })
    })
    if (!outbox.isSending) {
      outbox.isSending = true
      setImmediate(() => void this.#drain(dataStreamName, outbox))
    }
    return added
  }

  /** Sends what waits for a stream, part by part. */
  async #drain(dataStreamName: string, outbox: Outbox): Promise<void> {
    for (let part = outbox.takePart(); part.length > 0; part = outbox.takePart()) {
      try {
        const added = await this.#addPart(dataStreamName, part, outbox.info)
        for (const [index, { resolve }] of part.entries()) resolve(added[index] as AddedRecord)
      } catch (error) {
        for (const { reject, sequence } of part) {
          if (sequence !== null) fail(sequence, error as Error)
          reject(error)
        }
        const unsent = outbox.takeFailed()
        for (const { reject } of unsent) reject(error)
        this.#leave(unsent)
      }
    }
    outbox.isSending = false
    this.#outboxes.delete(dataStreamName)
  }

  #leave(records: readonly WaitingRecord[]): void {
    for (const { record } of records) this.#room.leave(record.bytes)
  }

  async #addPart(
    dataStreamName: string,
    part: readonly WaitingRecord[],
    info: JsonObjectWithBigInts | undefined,
  ): Promise<AddedRecord[]> {
    const keys = this.#keys
    const { announce: when, idempotencyWindowMs, maxLen, mayCutUncommitted } = this.#options
    const answer = addRecords.run(
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
    )
    // Not when its deadline has passed: ioredis keeps the records of a command until it has an answer or gives up.
    const leave = (): void => this.#leave(part)
    answer.then(leave, leave)
    const [, ...added] = (await this.#withDeadline(`add to ${dataStreamName}`, answer)) as [
      lbsId: unknown,
      ...added: [id: string, isNew: number][],
    ]
    // The caller's connection may answer numbers as text (stringNumbers).
    return added.map(([id, isNew]) => ({ id, isNew: Number(isNew) === 1 }))
  }

  /** To be called as soon as the command was handed over. What a slow link needs for it is added to its time. */
  async #withDeadline<T>(operation: string, answer: Promise<T>): Promise<T> {
    const { commandTimeoutMs } = this.#options
    const sent = this.#sent.mark()
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.#noteOverdue(answer)
        reject(new Error(`no answer within ${commandTimeoutMs} ms`))
      }, commandTimeoutMs + this.#sent.extraMs(sent))
    })
    try {
      const answered = await Promise.race([answer, deadline])
      this.#sent.answered(sent)
      return answered
    } catch (error) {
      throw redisError(operation, error)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Rejects the calls that wait for room, because it may not become free. */
  #noteOverdue(answer: Promise<unknown>): void {
    const end = (): void => void this.#overdue--
    this.#overdue++
    answer.then(end, end)
    this.#room.refuseWaiting(this.#noAnswer())
  }

  #noAnswer(): StreamClientError {
    return redisError(
      'add',
      new Error('Redis does not answer what was sent before; nothing of this was sent'),
    )
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

function message(dataStreamName: string, info: JsonObjectWithBigInts | undefined): string {
  return encodeLbsMessage(info === undefined ? { dataStreamName } : { dataStreamName, info })
}

type FailedSequence = RecordSequence & { readonly failure: Error }

function fail(sequence: RecordSequence, error: Error): void {
  sequence.failure ??= error
  sequence.unsure++
}

function partlyAdded(
  dataStreamName: string,
  records: number,
  added: number,
  { failure, unsure }: FailedSequence,
): StreamClientError {
  return new StreamClientError(
    'REDIS_ERROR',
    `addMany to ${dataStreamName}: ${added} of ${records} records were added, ${unsure} after them may have been, ` +
      `the others were not sent: ${failure.message}`,
    { operation: 'addMany', dataStreamName, added, unsure, cause: failure },
  )
}
