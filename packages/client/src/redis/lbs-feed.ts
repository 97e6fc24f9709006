/**
 * New entries of the LBS. The read blocks, so it has a connection of its own, which is thrown away after every failure:
 * what a server still answers to an abandoned read is pending under the consumer that has asked.
 */
import type { ServiceKeys } from '../service-keys.js'
import { Connection, type ConnectionProblem } from './connection.js'
import type { RedisLike } from './duplicate.js'
import type { RawEntry } from './lbs.js'

/** How much longer than BLOCK an answer may take before the connection counts as half open. */
const ANSWER_GRACE_MS = 500
/** Almost the greatest id: with the greatest one Redis would not even look up the consumer. */
const BEHIND_ALL_IDS = '18446744073709551614-0'

export interface LbsFeedContext {
  readonly template: RedisLike
  readonly connectionName: string
  readonly keys: ServiceKeys
  readonly blockMs: number
}

export class LbsFeed {
  readonly #context: LbsFeedContext
  #connection: Connection | undefined
  #lastReadAtMs: number | null = null
  /** What was wrong with the last connection that was thrown away. */
  #problem: ConnectionProblem | null = null
  #failures = 0

  constructor(context: LbsFeedContext) {
    this.#context = context
  }

  /** State of the connection, in ioredis's words. */
  get status(): string {
    return this.#connection?.status ?? 'end'
  }

  /** What keeps the connection away, null if nothing does. */
  get problem(): ConnectionProblem | null {
    return this.#connection?.problem ?? this.#problem
  }

  /** When a read was answered last (wall clock), null before the first. */
  get lastReadAtMs(): number | null {
    return this.#lastReadAtMs
  }

  /** Failures in a row, also beyond the end of a session. */
  get failures(): number {
    return this.#failures
  }

  /** Notes that entries were read and decoded, or that this has failed. */
  note(outcome: 'read' | 'failed'): void {
    this.#failures = outcome === 'read' ? 0 : this.#failures + 1
  }

  /** Connects if need be. Rejects when that fails, or when the signal aborts first. */
  async open(signal: AbortSignal): Promise<void> {
    if (this.#connection?.status === 'ready') return
    this.drop()
    const { blockMs, connectionName, template } = this.#context
    const commandTimeoutMs = blockMs + ANSWER_GRACE_MS
    const connection = new Connection(template, {
      name: connectionName,
      commandTimeoutMs,
      reconnects: false,
      failures: this.#failures,
    })
    this.#connection = connection
    await connection.open(commandTimeoutMs, signal)
    this.#problem = null // the answer to a read may come long after that
  }

  /** Reads at most `count` new entries for a consumer; none if nothing was added within `blockMs`. */
  async read(consumer: string, count: number): Promise<RawEntry[]> {
    const { blockMs, keys } = this.#context
    const connection = this.#connection
    if (connection === undefined) throw new Error('Connection is closed.')
    // By `callBuffer`, because the types of ioredis 5 know no xreadgroupBuffer.
    const reply = await connection.run((redis) =>
      redis.callBuffer(
        'xreadgroup',
        'GROUP',
        keys.group,
        consumer,
        'COUNT',
        count,
        'BLOCK',
        blockMs,
        'STREAMS',
        keys.lbs,
        '>',
      ),
    )
    this.#lastReadAtMs = Date.now()
    this.#problem = null
    if (reply === null) await this.#showItself(consumer, connection)
    const streams = (reply ?? []) as [key: Buffer, entries: RawEntry[]][]
    return streams.flatMap(([, entries]) => entries)
  }

  /** Throws the connection away. Safe at any time. */
  drop(): void {
    this.#problem = this.problem
    this.#connection?.close()
    this.#connection = undefined
  }

  /**
   * Before Redis 7.2 a read that finds nothing does not count as a sign of life of its consumer, and the roster leaves
   * out consumers that were not seen for long. A read of pending entries does count, even if there are none.
   */
  async #showItself(consumer: string, connection: Connection): Promise<void> {
    const { group, lbs } = this.#context.keys
    await connection.run((redis) =>
      redis.xreadgroup('GROUP', group, consumer, 'COUNT', 1, 'STREAMS', lbs, BEHIND_ALL_IDS),
    )
  }
}
