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
 */
import {
  backoffMs,
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

export interface StreamReaderContext {
  readonly template: RedisLike
  readonly connectionName: string
  /** For the entries in the wake stream. */
  readonly commands: Connection
  readonly wakeKey: string
  readonly readCount: number
  readonly bufferUse: BufferUse
  /** While the buffers hold so many records, only streams that have none are read, one record each. */
  readonly greatestBufferUse: number
  /** Records of one read, unless there are more streams than that. */
  readonly greatestRead: number
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
  #isWaking = false
  #onNotice: (() => void) | undefined

  constructor(context: StreamReaderContext) {
    this.#context = context
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
    this.#isStale = true
  }

  /** Says that a stream has become hungry. */
  notice(target: ReadTarget): void {
    if (this.#targets.get(target.name) !== target || !target.isHungry) return
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
    const { bufferUse, greatestBufferUse, greatestRead, readCount } = this.#context
    const room = Math.min(greatestBufferUse - bufferUse.records, greatestRead)
    const isFull = room <= 0
    const named = this.#choose(isFull)
    const { targets } = named
    if (targets.length === 0) return await (isFull ? sleep(FULL_POLL_MS, signal) : this.#noticed(signal))
    const nowMs = performance.now()
    if (nowMs < this.#notBeforeMs) return await sleep(this.#notBeforeMs - nowMs, signal)
    this.#notBeforeMs = nowMs + Math.min(targets.length * DISTANCE_PER_STREAM_MS, GREATEST_DISTANCE_MS)
    const count = Math.max(1, Math.min(readCount, Math.floor(room / targets.length)))
    const words = named.words(count, isFull ? FULL_POLL_MS : BLOCK_MS)
    this.#isWaking = false
    this.#isReading = true
    try {
      const reply = await this.#connection.run((redis) => redis.callBuffer('xread', words))
      const isUnchanged = named.deliver(
        reply as ReadReply,
        (target) => this.#targets.get(target.name) === target,
      )
      if (!isUnchanged) this.#isStale = true
    } catch (error) {
      if (!isReply(error) || isTransient(error) || !(await this.#findUnreadable(targets))) throw error
      this.#isStale = true
    } finally {
      this.#isReading = false
    }
  }

  /** What to name: the same as in the last read, unless that has changed. */
  #choose(isFull: boolean): NamedStreams {
    if (this.#named === null || this.#isStale || isFull || this.#isFull) {
      this.#isFull = isFull
      this.#isStale = false
      const wanted = [...this.#targets.values()].filter((target) => this.#wants(target))
      this.#named = new NamedStreams(wanted, this.#context.wakeKey, this.#named)
    }
    return this.#named
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
