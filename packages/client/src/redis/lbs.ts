/** The load-balancer stream and its group: what is read and made with plain commands. */
import { decodeLbsMessage, type LbsMessage } from '@redis-stream-client/notifs'
import { TimeSlice } from '../async/time-slice.js'
import { BatchSize } from '../decisions/batch-size.js'
import {
  DEFAULT_LIMITS,
  GREATEST_FIELD_COUNT,
  type LbsLimits,
  lengthProblem,
  limitProblem,
} from '../decisions/lbs-limits.js'
import type { InfoOutcome, InfoSchema } from '../info-schema.js'
import { LBS_FIELD, reservedNameProblem, type ServiceKeys } from '../service-keys.js'
import type { AssignedMessage } from './assigned-message.js'
import type { Connection } from './connection.js'
import { LARGE_MESSAGE_BYTES, LargeMessage } from './large-message.js'
import { encodeLetterFields } from './letter-fields.js'
import { isMissingGroup, isReply, messageOf } from './redis-errors.js'

/** An entry whose message could be read. */
export interface ReadableEntry {
  readonly id: string
  readonly message: AssignedMessage
}

/** An entry that nobody can serve, and why. */
export interface UnreadableEntry {
  readonly id: string
  readonly problem: string
  /** Only where the entry could be read: why its data stream is not served. */
  readonly refused?: { readonly dataStreamName: string; readonly reason: 'reserved-name' | 'info-invalid' }
  /** Its fields, where they are too long for a script to copy. */
  readonly largeFields?: readonly Buffer[]
}

export type LbsEntry = ReadableEntry | UnreadableEntry

/** A consumer of the group, as XINFO CONSUMERS shows it. */
export interface ConsumerInfo {
  readonly name: string
  readonly pending: number
  /** How long it has not been seen. */
  readonly idleMs: number
}

/** An entry as XREADGROUP and XRANGE give it in buffers: what is not UTF-8 would be changed in a string. */
export type RawEntry = [id: Buffer, fields: Buffer[] | null]

/** What was found under an id: null if there is no entry. */
export interface FoundEntry {
  readonly id: string
  readonly entry: LbsEntry | null
}

/** About how many bytes of entries one read asks for, by the sizes seen so far; never less than one entry. */
export const READ_BYTES: number = 1024 * 1024

/** Longer entries are copied with plain commands: in a script they would keep Redis from its other clients for too long. */
export const GREATEST_SCRIPT_BYTES: number = 1024 * 1024

/** How entries are read. */
export interface LbsReading extends LbsLimits {
  /** What becomes of integers in Info that JavaScript cannot count up to. */
  readonly infoNumbers: 'text' | 'refuse'
  /** Called with the first such integer of an entry that was handed over as text. */
  readonly onIntegerAsText: (entry: ReadableEntry, text: string) => void
  /** What Info has to fit; null if it may be anything. */
  readonly infoSchema: InfoSchema | null
}

const DEFAULT_READING: LbsReading = {
  ...DEFAULT_LIMITS,
  infoNumbers: 'text',
  onIntegerAsText: () => undefined,
  infoSchema: null,
}
const LBS_FIELD_BYTES = Buffer.from(LBS_FIELD)

export class Lbs {
  readonly #connection: Connection
  readonly #keys: ServiceKeys
  readonly #reading: LbsReading
  readonly #partSize = new BatchSize(READ_BYTES)
  /** One for all who read: several that decode at once must not hold up the heartbeat together. */
  readonly #slice = new TimeSlice()

  constructor(connection: Connection, keys: ServiceKeys, reading: LbsReading = DEFAULT_READING) {
    this.#connection = connection
    this.#keys = keys
    this.#reading = reading
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

  /** What is under the first of these ids: as many of them as should be asked for at once, at least one if there is one. */
  async firstEntries(ids: readonly string[]): Promise<FoundEntry[]> {
    if (ids.length === 0) return []
    const part = ids.slice(0, this.#partSize.count(ids.length))
    const found = await this.#rawEntries(part)
    this.#partSize.hear(found.map((raw) => (raw === null ? 0 : bytesOf(raw))))
    const entries = await this.decode(found.filter((raw) => raw !== null))
    let next = 0
    return part.map((id, index) => {
      const raw = found[index] ?? null
      return { id, entry: raw === null ? null : (entries[next++] as LbsEntry) }
    })
  }

  /** Writes a dead letter as bury.lua does, but from here; answers its id. */
  async copyToDead(
    fields: readonly Buffer[],
    { client, error, idInLbs, reason }: Readonly<Record<'client' | 'error' | 'idInLbs' | 'reason', string>>,
    maxLen: number,
  ): Promise<string> {
    const trim = Number.isFinite(maxLen) ? ['MAXLEN', '~', maxLen] : []
    const id = await this.#connection.run((redis) =>
      redis.xadd(
        this.#keys.dead,
        ...(trim as []),
        '*',
        ...['reason', reason, 'error', error, 'id', idInLbs, 'fields', encodeLetterFields(fields)],
        ...['client', client, 'at', Date.now()],
      ),
    )
    return String(id)
  }

  async dropDead(letterId: string): Promise<void> {
    await this.#connection.run((redis) => redis.xdel(this.#keys.dead, letterId))
  }

  /** Acknowledges entries that are not in the stream any more. */
  async acknowledge(ids: readonly string[]): Promise<void> {
    await this.#connection.run((redis) => redis.xack(this.#keys.lbs, this.#keys.group, ...ids))
  }

  /**
   * Reads the messages of entries, a few milliseconds at a time: a large Info takes tens of milliseconds, and heartbeats
   * have to get through in between. A schema that takes its time has all of these entries in hand at once, so they take no
   * longer than one of them may. Never rejects.
   */
  async decode(raws: readonly RawEntry[]): Promise<LbsEntry[]> {
    const begun: (LbsEntry | Promise<LbsEntry>)[] = []
    for (const raw of raws) {
      if (!this.#slice.mayWork()) await this.#slice.turn()
      begun.push(this.#decode(raw))
    }
    const entries: LbsEntry[] = []
    for (const entry of begun) entries.push(entry instanceof Promise ? await entry : entry)
    return entries
  }

  #decode(raw: RawEntry): LbsEntry | Promise<LbsEntry> {
    const sinceMs = performance.now()
    const read = decodeEntry(raw, this.#reading)
    const entry = isReadable(read) ? this.#check(read) : read
    this.#slice.worked(sinceMs)
    if (entry instanceof Promise) return entry.then((checked) => withLargeFields(checked, raw))
    return withLargeFields(entry, raw)
  }

  /** What becomes of an entry whose message could be read. */
  #check(entry: ReadableEntry): LbsEntry | Promise<LbsEntry> {
    const { id, message } = entry
    const { dataStreamName } = message
    const problem = reservedNameProblem(this.#keys.service, dataStreamName)
    if (problem !== null) return { id, problem, refused: { dataStreamName, reason: 'reserved-name' } }
    const { infoSchema } = this.#reading
    if (infoSchema === null) return entry
    const outcome = infoSchema.check(message.info ?? {})
    return outcome instanceof Promise ? outcome.then((made) => checked(entry, made)) : checked(entry, outcome)
  }

  async #rawEntries(ids: readonly string[]): Promise<(RawEntry | null)[]> {
    try {
      const answers = await this.#connection.run(async (redis) => {
        const pipeline = redis.pipeline()
        for (const id of ids) pipeline.xrangeBuffer(this.#keys.lbs, id, id)
        return await pipeline.exec()
      })
      return (answers ?? []).map(([error, answer]) => {
        if (error !== null) throw error
        return (answer as RawEntry[])[0] ?? null
      })
    } catch (error) {
      this.#partSize.fail(ids.length)
      throw error
    }
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

/** How many bytes an entry has. */
export function bytesOf([, fields]: RawEntry): number {
  return (fields ?? []).reduce((sum, each) => sum + each.length, 0)
}

function withLargeFields(entry: LbsEntry, raw: RawEntry): LbsEntry {
  const [, fields] = raw
  if (isReadable(entry) || fields === null || bytesOf(raw) <= GREATEST_SCRIPT_BYTES) return entry
  return { ...entry, largeFields: fields }
}

function checked({ id, message }: ReadableEntry, outcome: InfoOutcome): LbsEntry {
  if ('problem' in outcome) {
    const { dataStreamName } = message
    return { id, problem: outcome.problem, refused: { dataStreamName, reason: 'info-invalid' } }
  }
  message.checkedInfo = outcome
  return { id, message }
}

function decodeEntry([idBytes, fields]: RawEntry, reading: LbsReading): LbsEntry {
  const id = idBytes.toString()
  if (fields === null) return { id, problem: 'the entry was deleted' }
  if (fields.length > 2 * GREATEST_FIELD_COUNT) {
    return { id, problem: `the entry has ${fields.length / 2} fields, more than ${GREATEST_FIELD_COUNT}` }
  }
  for (let i = 0; i + 1 < fields.length; i += 2) {
    if (fields[i]?.equals(LBS_FIELD_BYTES)) return decodeMessage(id, fields[i + 1] as Buffer, reading)
  }
  return { id, problem: `the entry has no field ${LBS_FIELD}` }
}

function decodeMessage(id: string, bytes: Buffer, reading: LbsReading): LbsEntry {
  const tooLong = lengthProblem(bytes.length, reading)
  if (tooLong !== null) return { id, problem: tooLong }
  const integersAsText: string[] = []
  try {
    const message = decodeLbsMessage(bytes, {
      infoNumbers: reading.infoNumbers,
      onIntegerAsText: (text) => integersAsText.push(text),
    })
    const nameBytes = Buffer.byteLength(message.dataStreamName)
    // Info need not be measured if the whole message is shorter than the limit. Integers as text have gained two quotes.
    const isMeasured = bytes.length > reading.maxInfoBytes && message.info !== undefined
    const infoBytes = isMeasured
      ? Buffer.byteLength(JSON.stringify(message.info)) - 2 * integersAsText.length
      : 0
    const problem = limitProblem({ nameBytes, infoBytes }, reading)
    if (problem !== null) return { id, problem }
    const entry = { id, message: kept(message, bytes, reading) }
    const [first] = integersAsText
    if (first !== undefined) reading.onIntegerAsText(entry, first)
    return entry
  } catch (error) {
    return { id, problem: messageOf(error) }
  }
}

/** Large messages are kept as bytes. */
function kept(
  { dataStreamName, info }: LbsMessage,
  bytes: Buffer,
  { infoNumbers }: LbsReading,
): AssignedMessage {
  if (info === undefined) return { dataStreamName }
  if (bytes.length <= LARGE_MESSAGE_BYTES) return { dataStreamName, info }
  return new LargeMessage({ dataStreamName, info }, { bytes, infoNumbers })
}

export function isReadable(entry: LbsEntry): entry is ReadableEntry {
  return 'message' in entry
}

export function isUnreadable(entry: LbsEntry): entry is UnreadableEntry {
  return 'problem' in entry
}
