/**
 * Reads many data streams over one connection, without polling any of them.
 *
 * One blocking XREAD names every stream that is hungry, each with the id after which it goes on, and a wake stream of
 * this connection's own. Redis answers as soon as any of them has something. When another stream becomes hungry
 * meanwhile, an entry in the wake stream ends the read, and the next one names it too. An entry written before the
 * read arrives ends it as well, because its id is newer than the last one seen: nothing can be missed, which could
 * not be said of CLIENT UNBLOCK (and that needs a permission of its own).
 *
 *   choosing ── no stream is hungry ──> sleeping ── noticed ──> choosing
 *   choosing ──> reading ── records, woken, BLOCK over ──> pausing ──> choosing
 *
 * Naming a stream costs Redis and this process about a microsecond each, so reads of thousands of streams begin some
 * milliseconds apart: under load that gathers records instead of repeating the list for each. A record that comes after a
 * quiet while is read at once.
 *
 * Redis counts records, and what has to be bounded is bytes. So a read asks for no more records of no more streams than
 * are expected to fit into one answer, see RecordSizes. While what waits is expected to be too much for that, parts of it
 * are read, each without blocking, and between them the other streams, one record each. All streams are named at once only
 * when none is known to have more than was read.
 */
import {
  backoffMs,
  bytesReceivedFromAll,
  Connection,
  isReply,
  isTransient,
  messageOf,
  Outage,
  type RedisLike,
  type SafeLogger,
  sleep,
} from '@redis-stream-client/client/internal'
import { NamedStreams, type ReadReply, type ReadTarget } from './named-streams.js'
import type { BufferUse } from './record-buffer.js'
import { RecordSizes } from './record-sizes.js'

export interface StreamReaderContext {
  readonly template: RedisLike
  readonly connectionName: string
  /** For the entries in the wake stream. */
  readonly commands: Connection
  readonly wakeKey: string
  readonly readCount: number
  readonly bufferUse: BufferUse
  /** While the buffers hold so many records, or half of so many bytes, only streams that have none are read, one record each. */
  readonly greatestBufferUse: BufferUse
  /** What one read is to bring at most, unless there are more streams, or one record is larger. */
  readonly greatestRead: BufferUse
  readonly logger: SafeLogger
  /** Redis refuses to read this stream: it is of another type, or not ours to read. */
  readonly onUnreadable: (target: ReadTarget, error: Error) => void
}

const BLOCK_MS = 2000
/** How much longer than BLOCK an answer may take before the connection counts as half open. */
const ANSWER_GRACE_MS = 1000
/** Between the beginnings of two reads, for each stream named. */
const DISTANCE_PER_STREAM_MS = 1 / 250
const GREATEST_DISTANCE_MS = 10
const FIRST_RETRY_MS = 20
const GREATEST_RETRY_MS = 1000
/** While the buffers are full: how long before they are looked at again. */
const FULL_POLL_MS = 10
/** There are three connections at most, each with one read under way. */
const READS_AT_ONCE = 3
/** Streams are read all at once if so many records of each fit into one answer, although some have more. */
const LEAST_TOGETHER = 8
/** Records up to this size are not read together with larger ones: all streams of a read are asked for as many. */
const SMALL_RECORD_BYTES = 4096
/** While parts are read: how often the other streams are read as well. */
const OTHERS_EVERY_MS = 10
/** After so long without an answer any stream may have much. */
const GREATEST_GAP_MS = 100
/** An answer that is so many times larger than any should be is not waited for. */
const GREATEST_EXCESS = 4
const EXCESS_POLL_MS = 5
const WAKE_KEY_TTL_MS = 60_000
/** A connection that is back sooner is not logged. */
const OUTAGE_PATIENCE_MS = 1000
const UNREAD = { begins: 'data streams cannot be read, trying on', ends: 'data streams are read again' }

export class StreamReader {
  readonly #context: StreamReaderContext
  readonly #connection: Connection
  readonly #targets = new Map<string, ReadTarget>()
  /** What the read under way names, or the last one. */
  #named: NamedStreams | null = null
  #isReading = false
  /** True if the buffers were full when it was chosen what to name. */
  #isFull = false
  /** True if the next read has to name other streams. */
  #isStale = true
  #notBeforeMs = 0
  readonly #sizes: RecordSizes
  #answeredAtMs = 0
  #othersReadAtMs = 0
  /** What one record of each stream that is named is expected to have. */
  #namedBytes = 0
  #isWaking = false
  #onNotice: (() => void) | undefined

  constructor(context: StreamReaderContext) {
    this.#context = context
    this.#sizes = new RecordSizes(context.greatestRead.bytes)
    this.#connection = new Connection(context.template, {
      name: context.connectionName,
      commandTimeoutMs: BLOCK_MS + ANSWER_GRACE_MS,
    })
  }

  get size(): number {
    return this.#targets.size
  }

  get status(): string {
    return this.#connection.status
  }

  /** What keeps the connection away, null if nothing does. */
  get problem(): Connection['problem'] {
    return this.#connection.problem
  }

  open(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return this.#connection.open(timeoutMs, signal)
  }

  /** Safe twice, and for one that never ran. */
  close(): void {
    this.#connection.close()
  }

  add(target: ReadTarget): void {
    this.#targets.set(target.name, target)
    this.notice(target)
  }

  remove(target: ReadTarget): void {
    if (this.#targets.get(target.name) !== target) return
    this.#targets.delete(target.name)
    this.#sizes.remove(target)
    this.#isStale = true
  }

  /** Says that a stream has become hungry. */
  notice(target: ReadTarget): void {
    if (this.#targets.get(target.name) !== target || !target.isHungry) return
    this.#sizes.add(target)
    this.#isStale = true
    if (!this.#isReading) this.#onNotice?.()
    else if (this.#wants(target) && this.#named?.has(target) !== true) this.#wake()
  }

  /** Reads until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => {
      this.#onNotice?.()
      this.#connection.close()
    }
    signal.addEventListener('abort', stop, { once: true })
    const outage = new Outage(this.#context.logger, UNREAD)
    let failingSinceMs = 0
    for (let failures = 0; !signal.aborted; ) {
      try {
        await this.#readOnce(signal)
        failures = 0
        outage.end()
      } catch (error) {
        if (signal.aborted) break
        if (failures === 0) failingSinceMs = performance.now()
        if (performance.now() - failingSinceMs > OUTAGE_PATIENCE_MS) outage.hear(error, this.#connection)
        this.#context.logger.debug({ error: messageOf(error), failures }, 'reading data streams failed')
        await sleep(backoffMs(failures++, FIRST_RETRY_MS, GREATEST_RETRY_MS), signal)
      }
    }
    signal.removeEventListener('abort', stop)
    this.#connection.close()
  }

  async #readOnce(signal: AbortSignal): Promise<void> {
    const { bufferUse, greatestBufferUse, greatestRead } = this.#context
    const freeBytes = greatestBufferUse.bytes - bufferUse.bytes
    // What the reads of the other connections bring has to find room as well.
    if (bufferUse.bytes > 0 && freeBytes < READS_AT_ONCE * greatestRead.bytes)
      return await sleep(FULL_POLL_MS, signal)
    const freeRecords = Math.min(greatestBufferUse.records - bufferUse.records, greatestRead.records)
    const isFull = freeRecords <= 0 || freeBytes < greatestBufferUse.bytes / 2
    if (performance.now() - this.#answeredAtMs > GREATEST_GAP_MS) this.#forgetEnds()
    const all = this.#choose(isFull)
    if (all.targets.length === 0) return await (isFull ? sleep(FULL_POLL_MS, signal) : this.#noticed(signal))
    const nowMs = performance.now()
    if (nowMs < this.#notBeforeMs) return await sleep(this.#notBeforeMs - nowMs, signal)
    const part = this.#choosePart(all, nowMs)
    const { targets } = part ?? all
    this.#notBeforeMs = nowMs + Math.min(targets.length * DISTANCE_PER_STREAM_MS, GREATEST_DISTANCE_MS)
    const bytes = part === null ? this.#namedBytes : this.#sizes.totalBytes(targets)
    const count = isFull ? 1 : this.#countFor(targets.length, bytes, freeRecords)
    await this.#read(part ?? all, count, isFull ? FULL_POLL_MS : BLOCK_MS)
  }

  /** How many records of each of so many streams, whose records have `bytes` together, are read. */
  #countFor(streams: number, bytes: number, freeRecords: number): number {
    const { greatestRead, readCount } = this.#context
    const fitting = Math.min(Math.floor(greatestRead.bytes / bytes), Math.floor(freeRecords / streams))
    return Math.max(1, Math.min(readCount, fitting))
  }

  async #read(named: NamedStreams, count: number, blockMs: number): Promise<void> {
    const { targets } = named
    this.#isWaking = false
    this.#isReading = true
    const excess = this.#watchExcess(targets.length * count)
    try {
      const reply = (await this.#connection.run((redis) =>
        redis.callBuffer('xread', named.words(count, blockMs)),
      )) as ReadReply
      this.#hear(named, reply, count)
      const isUnchanged = named.deliver(reply, (target) => this.#isReadFor(target))
      if (!isUnchanged || named !== this.#named) this.#isStale = true
    } catch (error) {
      this.#isStale = true
      if (excess.isFound) this.#sizes.failLarge(targets)
      else if (!isReply(error) || isTransient(error) || !(await this.#findUnreadable(targets))) {
        this.#sizes.fail(targets)
        throw error
      }
    } finally {
      this.#isReading = false
      this.#answeredAtMs = performance.now()
      excess.stop()
    }
  }

  #isReadFor(target: ReadTarget): boolean {
    return this.#targets.get(target.name) === target
  }

  /** Learns from an answer. A stream that is not in it has nothing more, or was not looked at because another came first. */
  #hear(named: NamedStreams, reply: ReadReply, count: number): void {
    const answered = new Set<ReadTarget>()
    this.#sizes.hearAnswer()
    for (const [key, records] of reply ?? []) {
      const target = named.targetOf(key.toString())
      if (target === undefined || !this.#isReadFor(target)) continue
      answered.add(target)
      const before = this.#sizes.expectedBytes(target)
      this.#sizes.hear(target, records, count)
      this.#namedBytes += this.#sizes.expectedBytes(target) - before
    }
    for (const target of this.#sizes.backlog) {
      if (!answered.has(target) && named.has(target)) this.#sizes.hearNothing(target)
    }
  }

  /** Any stream may have much by now. */
  #forgetEnds(): void {
    for (const target of this.#targets.values()) this.#sizes.add(target)
  }

  /**
   * Gives the connection up when an answer is far larger than it should be: records have become larger all of a sudden. Of a
   * single record there is no smaller answer.
   */
  #watchExcess(records: number): { isFound: boolean; stop: () => void } {
    const excess = { isFound: false, stop: (): void => clearInterval(timer) }
    const { redis } = this.#connection
    const before = bytesReceivedFromAll(redis)
    const greatest = GREATEST_EXCESS * this.#context.greatestRead.bytes
    const timer = setInterval(() => {
      if (records === 1 || bytesReceivedFromAll(redis) - before <= greatest) return
      excess.isFound = true
      excess.stop()
      this.#connection.replace()
    }, EXCESS_POLL_MS)
    return excess
  }

  /** All that may be read: the same as in the last read, unless that has changed. */
  #choose(isFull: boolean): NamedStreams {
    if (this.#named === null || this.#isStale || isFull || this.#isFull) {
      this.#isFull = isFull
      this.#isStale = false
      const wanted = [...this.#targets.values()].filter((target) => this.#wants(target))
      this.#namedBytes = this.#sizes.totalBytes(wanted)
      this.#named = new NamedStreams(wanted, this.#context.wakeKey, this.#named)
    }
    return this.#named
  }

  /** What of it is read now; null if all can be read at once. */
  #choosePart(all: NamedStreams, nowMs: number): NamedStreams | null {
    if (LEAST_TOGETHER * this.#namedBytes <= this.#context.greatestRead.bytes) return null
    const backlog = [...this.#sizes.backlog].filter((target) => this.#wants(target))
    if (backlog.length === 0) return null
    const others = all.targets.filter((target) => !this.#sizes.backlog.has(target))
    const isOthersTurn = others.length > 0 && nowMs - this.#othersReadAtMs > OTHERS_EVERY_MS
    if (isOthersTurn) this.#othersReadAtMs = nowMs
    const targets = isOthersTurn ? others : this.#firstThatFit(backlog)
    return new NamedStreams(targets, this.#context.wakeKey, all, { isBlocking: false })
  }

  /** The first of them, and as many of the next with records of the same kind as are expected to fit into one answer. */
  #firstThatFit(backlog: readonly ReadTarget[]): ReadTarget[] {
    const isSmall = (target: ReadTarget): boolean => this.#sizes.expectedBytes(target) <= SMALL_RECORD_BYTES
    const [first] = backlog as [ReadTarget]
    const fitting: ReadTarget[] = []
    let bytes = 0
    for (const target of backlog) {
      if (isSmall(target) !== isSmall(first)) continue
      bytes += this.#sizes.expectedBytes(target)
      if (bytes > this.#context.greatestRead.bytes && fitting.length > 0) break
      fitting.push(target)
    }
    return fitting
  }

  /** While the buffers are full, streams with nothing in them get one record each: slow ones must not stop the rest. */
  #wants(target: ReadTarget): boolean {
    return target.isHungry && (!this.#isFull || target.isEmpty)
  }

  /** One stream that cannot be read fails the read of all: finds it. True if there was one. */
  async #findUnreadable(targets: readonly ReadTarget[]): Promise<boolean> {
    const answers = await this.#connection.run(async (redis) => {
      const pipeline = redis.pipeline()
      for (const { name, readPosition } of targets) pipeline.xread('COUNT', 1, 'STREAMS', name, readPosition)
      return await pipeline.exec()
    })
    let found = false
    for (const [index, [error]] of (answers ?? []).entries()) {
      if (error === null || !isReply(error) || isTransient(error)) continue
      found = true
      this.#context.onUnreadable(targets[index] as ReadTarget, error)
    }
    return found
  }

  /** Ends the read under way. */
  #wake(): void {
    if (this.#isWaking) return
    this.#isWaking = true
    const { commands, logger, wakeKey } = this.#context
    commands
      .run((redis) =>
        redis.multi().xadd(wakeKey, 'MAXLEN', 1, '*', 'wake', '').pexpire(wakeKey, WAKE_KEY_TTL_MS).exec(),
      )
      .catch((error: unknown) => {
        this.#isWaking = false // the read ends by itself when BLOCK is over
        logger.debug({ error: messageOf(error) }, 'waking the reader failed')
      })
  }

  #noticed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve()
      this.#onNotice = () => {
        this.#onNotice = undefined
        resolve()
      }
    })
  }
}
