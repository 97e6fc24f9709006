/** The load-balancer stream and its group: what is read and made with plain commands. */
import { decodeLbsMessage, type LbsMessage } from '@redis-stream-client/notifs'
import {
  DEFAULT_LIMITS,
  GREATEST_FIELD_COUNT,
  type LbsLimits,
  limitProblem,
} from '../decisions/lbs-limits.js'
import { LBS_FIELD, reservedNameProblem, type ServiceKeys } from '../service-keys.js'
import type { Connection } from './connection.js'
import type { RedisLike } from './duplicate.js'
import { isMissingGroup, isReply, messageOf } from './redis-errors.js'

/** An entry whose message could be read. */
export interface ReadableEntry {
  readonly id: string
  readonly message: LbsMessage
}

/** An entry that nobody can serve, and why. */
export interface UnreadableEntry {
  readonly id: string
  readonly problem: string
  /** Only where the entry could be read and its data stream has a name that is reserved. */
  readonly reservedName?: string
}

export type LbsEntry = ReadableEntry | UnreadableEntry

/** A consumer of the group, as XINFO CONSUMERS shows it. */
export interface ConsumerInfo {
  readonly name: string
  readonly pending: number
  /** How long it has not been seen. */
  readonly idleMs: number
}

export type RawEntry = [id: string, fields: string[] | null]

export class Lbs {
  readonly #connection: Connection
  readonly #keys: ServiceKeys
  readonly #limits: LbsLimits

  constructor(connection: Connection, keys: ServiceKeys, limits: LbsLimits = DEFAULT_LIMITS) {
    this.#connection = connection
    this.#keys = keys
    this.#limits = limits
  }

  /** Makes the stream, the group (at `0`: what was added before is served too) and the consumer, where missing. */
  async ensureConsumer(consumer: string): Promise<void> {
    const { lbs, group } = this.#keys
    await this.#connection.run(async (redis) => {
      try {
        await redis.xgroup('CREATE', lbs, group, '0', 'MKSTREAM')
      } catch (error) {
        if (!isReply(error, 'BUSYGROUP')) throw error
      }
      await redis.xgroup('CREATECONSUMER', lbs, group, consumer)
    })
  }

  /** The consumers of the group; none where there is no stream or group yet. */
  async consumers(): Promise<ConsumerInfo[]> {
    const { lbs, group } = this.#keys
    try {
      const rows = await this.#connection.run((redis) => redis.xinfo('CONSUMERS', lbs, group))
      return (rows as unknown[][]).map(readConsumer)
    } catch (error) {
      if (isMissingGroup(error) || isReply(error, 'ERR no such key')) return []
      throw error
    }
  }

  /**
   * Ids pending under a consumer, in order, at most `count`, after the id `after`.
   * Only those idle for `idleMs` if it is given: then Redis walks through all that are not.
   */
  async pendingIds(
    consumer: string,
    count: number,
    after: string | null,
    idleMs?: number,
  ): Promise<string[]> {
    const { lbs, group } = this.#keys
    const start = after === null ? '-' : `(${after}`
    const rows = await this.#connection.run((redis) =>
      idleMs === undefined
        ? redis.xpending(lbs, group, start, '+', count, consumer)
        : redis.xpending(lbs, group, 'IDLE', idleMs, start, '+', count, consumer),
    )
    return (rows as [id: string][]).map(([id]) => id)
  }

  /** The entries with these ids, null where there is none. */
  async entries(ids: readonly string[]): Promise<(LbsEntry | null)[]> {
    if (ids.length === 0) return []
    const rows = await this.#pipeline(ids, (pipeline, id) => pipeline.xrange(this.#keys.lbs, id, id))
    return (rows as RawEntry[][]).map(([raw]) => (raw === undefined ? null : this.decode(raw)))
  }

  /** Acknowledges entries that are not in the stream any more. */
  async acknowledge(ids: readonly string[]): Promise<void> {
    await this.#connection.run((redis) => redis.xack(this.#keys.lbs, this.#keys.group, ...ids))
  }

  /** Reads the message of an entry as XREADGROUP and XRANGE give it. Never throws. */
  decode(raw: RawEntry): LbsEntry {
    const entry = decodeEntry(raw, this.#limits)
    if (!isReadable(entry)) return entry
    const { dataStreamName } = entry.message
    const problem = reservedNameProblem(this.#keys.service, dataStreamName)
    return problem === null ? entry : { id: entry.id, problem, reservedName: dataStreamName }
  }

  async #pipeline(
    ids: readonly string[],
    add: (pipeline: ReturnType<RedisLike['pipeline']>, id: string) => unknown,
  ): Promise<unknown[]> {
    const answers = await this.#connection.run(async (redis) => {
      const pipeline = redis.pipeline()
      for (const id of ids) add(pipeline, id)
      return await pipeline.exec()
    })
    return (answers ?? []).map(([error, answer]) => {
      if (error !== null) throw error
      return answer
    })
  }
}

function readConsumer(row: readonly unknown[]): ConsumerInfo {
  const facts = new Map<unknown, unknown>()
  for (let i = 0; i + 1 < row.length; i += 2) facts.set(row[i], row[i + 1])
  return {
    name: String(facts.get('name')),
    pending: Number(facts.get('pending')),
    idleMs: Number(facts.get('idle')),
  }
}

function decodeEntry([id, fields]: RawEntry, limits: LbsLimits): LbsEntry {
  if (fields === null) return { id, problem: 'the entry was deleted' }
  if (fields.length > 2 * GREATEST_FIELD_COUNT) {
    return { id, problem: `the entry has ${fields.length / 2} fields, more than ${GREATEST_FIELD_COUNT}` }
  }
  for (let i = 0; i + 1 < fields.length; i += 2) {
    if (fields[i] !== LBS_FIELD) continue
    const text = fields[i + 1] as string
    try {
      const message = decodeLbsMessage(text)
      const problem = limitProblem(message, limits, Buffer.byteLength(text))
      return problem === null ? { id, message } : { id, problem }
    } catch (error) {
      return { id, problem: messageOf(error) }
    }
  }
  return { id, problem: `the entry has no field ${LBS_FIELD}` }
}

export function isReadable(entry: LbsEntry): entry is ReadableEntry {
  return 'message' in entry
}

export function isUnreadable(entry: LbsEntry): entry is UnreadableEntry {
  return 'problem' in entry
}
