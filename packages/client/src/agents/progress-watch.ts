/**
 * Takes streams away from an application that does not work on them, with the option `progressTimeoutMs`. The lease proves
 * that the process lives; only its commits and touches prove that its work goes on.
 *
 *   owned ── neither committed nor touched for so long ──> disowned ── Redis has answered ──> released
 *
 * Disowned comes first: from then on this client does nothing in the stream's name, so there are never two owners.
 * Until Redis has answered, nothing else in this client may take the stream, or its own application would get it back
 * before any other.
 */
import { StreamClientError } from '@redis-stream-client/notifs'
import { sleep } from '../async/sleep.js'
import type { Clock } from '../decisions/clock.js'
import type { SafeLogger } from '../logger.js'
import { inSlices, type Ownership } from '../ownership/ownership.js'
import type { StreamHandle, StreamOperations } from '../ownership/stream-handle.js'
import { messageOf } from '../redis/redis-errors.js'
import type { Session } from '../session/session.js'
import { type Agent, repeat } from './agent.js'

const LOOKS_PER_TIMEOUT = 4
const GREATEST_PAUSE_MS = 1000

export interface ProgressWatchContext {
  readonly progressTimeoutMs: number
  readonly ownership: Ownership
  readonly operations: Pick<StreamOperations, 'release'>
  readonly clock: Clock
  readonly logger: SafeLogger
}

export class ProgressWatch implements Agent {
  readonly #context: ProgressWatchContext
  /** Disowned, and not yet given back. */
  readonly #disowned = new Set<StreamHandle>()

  constructor(context: ProgressWatchContext) {
    this.#context = context
  }

  async run(session: Session, signal: AbortSignal): Promise<void> {
    const { logger, progressTimeoutMs } = this.#context
    if (progressTimeoutMs === Number.POSITIVE_INFINITY) return
    const pauseMs = Math.min(progressTimeoutMs / LOOKS_PER_TIMEOUT, GREATEST_PAUSE_MS)
    let wasLate = false
    await repeat('progress watch', signal, logger, async () => {
      const isLate = await this.#pause(pauseMs, signal)
      if (signal.aborted) return
      if (isLate && !wasLate) {
        wasLate = true // the process stood still: its owners get one pause to say that they go on
        return
      }
      wasLate = false
      await this.#disownStuck(session)
      await Promise.all([...this.#disowned].map((stream) => this.#giveBack(stream)))
    })
    for (const stream of this.#disowned) this.#forget(stream) // the session is over: its streams are found like those of the dead
  }

  /** Answers whether it took more than twice as long as it should. */
  async #pause(pauseMs: number, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#context
    const beganMs = clock.now().monotonicMs
    await sleep(pauseMs, signal)
    return clock.now().monotonicMs - beganMs > 2 * pauseMs
  }

  async #disownStuck(session: Session): Promise<void> {
    const { clock, logger, ownership, progressTimeoutMs } = this.#context
    const sinceMs = clock.now().monotonicMs - progressTimeoutMs
    const stuck = [...ownership.streams.values()].filter((stream) => isStuck(stream, session, sinceMs))
    const [first] = stuck
    if (first === undefined) return
    logger.warn(
      { streams: stuck.length, dataStreamName: first.dataStreamName, progressTimeoutMs },
      'streams were neither committed nor touched for progressTimeoutMs: they go to another client',
    )
    await inSlices(stuck, (stream) => {
      if (!isStuck(stream, session, sinceMs)) return // it went on between two slices
      ownership.givingBack.add(stream.idInLbs)
      this.#disowned.add(stream)
      ownership.disown(stream, 'no-progress')
    })
  }

  /** Never rejects: what Redis refuses is tried again at the next look. */
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
    this.#context.ownership.givingBack.delete(stream.idInLbs)
  }
}

/** A call that is under way is a sign of work, and decides itself what becomes of the stream. */
function isStuck(stream: StreamHandle, session: Session, sinceMs: number): boolean {
  return stream.session === session && stream.progressAtMs <= sinceMs && !stream.isBusy && !stream.hasEnded
}
