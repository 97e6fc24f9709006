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
 * Naming a stream costs Redis about a microsecond, so a read of thousands is followed by a pause of some
 * milliseconds: under load that gathers records instead of repeating the list for each.
 */
import {
  backoffMs,
  Connection,
  isReply,
  isTransient,
  messageOf,
  type RedisLike,
  type SafeLogger,
  sleep,
} from '@redis-stream-client/client/internal'
import type { BufferUse } from './record-buffer.js'
import { START } from './stream-position.js'
import type { RawRecord } from './stream-record.js'

/** What a reader reads for. */
export interface ReadTarget {
  readonly name: string
  readonly readPosition: string
  readonly isHungry: boolean
  accept(after: string, records: readonly RawRecord[]): void
}

export interface StreamReaderContext {
  readonly template: RedisLike
  readonly connectionName: string
  /** For the entries in the wake stream. */
  readonly commands: Connection
  readonly wakeKey: string
  readonly readCount: number
  readonly bufferUse: BufferUse
  /** Nothing is read while the buffers hold so many records. */
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
const STREAMS_PER_PAUSE_MS = 250
const GREATEST_PAUSE_MS = 10
const FIRST_RETRY_MS = 20
const GREATEST_RETRY_MS = 1000
/** While the buffers are full. */
const FULL_POLL_MS = 5
const WAKE_KEY_TTL_MS = 60_000

type ReadReply = [key: string, records: RawRecord[]][] | null

export class StreamReader {
  readonly #context: StreamReaderContext
  readonly #connection: Connection
  readonly #targets = new Map<string, ReadTarget>()
  /** What the read under way names; null while there is none. */
  #named: Map<string, ReadTarget> | null = null
  #wakeId = START
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

  open(timeoutMs: number, signal: AbortSignal): Promise<void> {
    return this.#connection.open(timeoutMs, signal)
  }

  add(target: ReadTarget): void {
    this.#targets.set(target.name, target)
    this.notice(target)
  }

  remove(target: ReadTarget): void {
    if (this.#targets.get(target.name) === target) this.#targets.delete(target.name)
  }

  /** Says that a stream has become hungry. */
  notice(target: ReadTarget): void {
    if (this.#targets.get(target.name) !== target || !target.isHungry) return
    if (this.#named === null) this.#onNotice?.()
    else if (this.#named.get(target.name) !== target) this.#wake()
  }

  /** Reads until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = (): void => {
      this.#onNotice?.()
      this.#connection.close()
    }
    signal.addEventListener('abort', stop, { once: true })
    for (let failures = 0; !signal.aborted; ) {
      try {
        await this.#readOnce(signal)
        failures = 0
      } catch (error) {
        if (signal.aborted) break
        this.#context.logger.debug({ error: messageOf(error), failures }, 'reading data streams failed')
        await sleep(backoffMs(failures++, FIRST_RETRY_MS, GREATEST_RETRY_MS), signal)
      }
    }
    signal.removeEventListener('abort', stop)
    this.#connection.close()
  }

  async #readOnce(signal: AbortSignal): Promise<void> {
    const { bufferUse, greatestBufferUse, greatestRead, readCount } = this.#context
    const hungry = [...this.#targets.values()].filter((target) => target.isHungry)
    if (hungry.length === 0) return await this.#noticed(signal)
    const room = Math.min(greatestBufferUse - bufferUse.records, greatestRead)
    if (room <= 0) return await sleep(FULL_POLL_MS, signal)
    const count = Math.max(1, Math.min(readCount, Math.floor(room / hungry.length)))
    const positions = hungry.map((target) => target.readPosition)
    this.#named = new Map(hungry.map((target) => [target.name, target]))
    this.#isWaking = false
    try {
      const reply = await this.#connection.run((redis) =>
        redis.call('xread', [
          'COUNT',
          count,
          'BLOCK',
          BLOCK_MS,
          'STREAMS',
          ...hungry.map((target) => target.name),
          this.#context.wakeKey,
          ...positions,
          this.#wakeId,
        ] as string[]),
      )
      this.#deliver(
        reply as ReadReply,
        this.#named,
        new Map(hungry.map(({ name }, i) => [name, positions[i] as string])),
      )
    } catch (error) {
      if (!isReply(error) || isTransient(error) || !(await this.#findUnreadable(hungry))) throw error
    } finally {
      this.#named = null
    }
    const pauseMs = Math.min(Math.floor(hungry.length / STREAMS_PER_PAUSE_MS), GREATEST_PAUSE_MS)
    if (pauseMs > 0) await sleep(pauseMs, signal)
  }

  #deliver(
    reply: ReadReply,
    named: ReadonlyMap<string, ReadTarget>,
    positions: ReadonlyMap<string, string>,
  ): void {
    for (const [key, records] of reply ?? []) {
      const target = named.get(key)
      if (key === this.#context.wakeKey) this.#wakeId = records.at(-1)?.[0] ?? this.#wakeId
      else if (target !== undefined && this.#targets.get(key) === target) {
        target.accept(positions.get(key) as string, records)
      }
    }
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
