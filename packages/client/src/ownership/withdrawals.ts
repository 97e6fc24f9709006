/**
 * Takes streams away from an application that does not give them back itself.
 *
 *   owned ──> disowned ── Redis has answered ──> released
 *
 * Disowned comes first: from then on this client does nothing in the stream's name, so there are never two owners.
 * What Redis has not taken back when the session ends is found like the streams of the dead.
 *
 * Until Redis has answered, nothing else in this client may take the stream, or its own application would get it back
 * before any other.
 */
import { type DisownReason, StreamClientError } from '@redis-stream-client/notifs'
import type { SafeLogger } from '../logger.js'
import { messageOf } from '../redis/redis-errors.js'
import type { Ownership } from './ownership.js'
import type { StreamHandle, StreamOperations } from './stream-handle.js'

export interface WithdrawalsContext {
  readonly ownership: Ownership
  readonly operations: Pick<StreamOperations, 'release'>
  readonly logger: SafeLogger
}

export class Withdrawals {
  readonly #context: WithdrawalsContext
  /** Disowned, and not yet given back. */
  readonly #disowned = new Set<StreamHandle>()
  readonly #ids = new Set<string>()

  constructor(context: WithdrawalsContext) {
    this.#context = context
  }

  /** Whether the stream of this entry is disowned and not yet given back. */
  has(idInLbs: string): boolean {
    return this.#ids.has(idInLbs)
  }

  /** How many are disowned and not yet given back. */
  get size(): number {
    return this.#disowned.size
  }

  /** Disowns a stream. What follows is `giveBack`. */
  disown(stream: StreamHandle, reason: DisownReason): void {
    this.#ids.add(stream.idInLbs)
    this.#disowned.add(stream)
    this.#context.ownership.disown(stream, reason)
  }

  /** Gives back what was disowned. Never rejects: what Redis refuses is tried again at the next call. */
  async giveBack(): Promise<void> {
    await Promise.all([...this.#disowned].map((stream) => this.#giveBack(stream)))
  }

  async #giveBack(stream: StreamHandle): Promise<void> {
    const { logger, operations } = this.#context
    try {
      await operations.release(stream)
      this.#forget(stream)
    } catch (error) {
      const { dataStreamName } = stream
      const code = error instanceof StreamClientError ? error.code : null
      logger.debug({ dataStreamName, code, error: messageOf(error) }, 'not given back as it should be')
      if (code === 'STREAM_NOT_OWNED' || code === 'REPLICAS_BEHIND') this.#forget(stream)
    }
  }

  #forget(stream: StreamHandle): void {
    this.#disowned.delete(stream)
    this.#ids.delete(stream.idInLbs)
  }
}
