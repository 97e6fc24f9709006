/**
 * Takes streams away from an application that does not work on them, with the option `progressTimeoutMs`. The lease proves
 * that the process lives; only its commits and touches prove that its work goes on.
 */
import { inSlices } from '../async/in-slices.js'
import { sleep } from '../async/sleep.js'
import type { Clock } from '../decisions/clock.js'
import type { SafeLogger } from '../logger.js'
import type { Ownership } from '../ownership/ownership.js'
import type { StreamHandle } from '../ownership/stream-handle.js'
import type { Withdrawals } from '../ownership/withdrawals.js'
import type { Session } from '../session/session.js'
import { type Agent, type AgentContext, repeat } from './agent.js'

const LOOKS_PER_TIMEOUT = 4
const GREATEST_PAUSE_MS = 1000

export interface ProgressWatchContext extends AgentContext {
  readonly progressTimeoutMs: number
  readonly ownership: Ownership
  readonly withdrawals: Withdrawals
  readonly clock: Clock
  readonly logger: SafeLogger
}

export class ProgressWatch implements Agent {
  readonly #context: ProgressWatchContext

  constructor(context: ProgressWatchContext) {
    this.#context = context
  }

  async run(): Promise<void> {
    const { logger, progressTimeoutMs, signal, withdrawals } = this.#context
    if (progressTimeoutMs === Number.POSITIVE_INFINITY) return
    const pauseMs = Math.min(progressTimeoutMs / LOOKS_PER_TIMEOUT, GREATEST_PAUSE_MS)
    let wasLate = false
    await repeat('progress watch', signal, logger, async () => {
      const isLate = await this.#pause(pauseMs)
      if (signal.aborted) return
      if (isLate && !wasLate) {
        wasLate = true // the process stood still: its owners get one pause to say that they go on
        return
      }
      wasLate = false
      await this.#disownStuck()
      await withdrawals.giveBack()
    })
  }

  /** Answers whether it took more than twice as long as it should. */
  async #pause(pauseMs: number): Promise<boolean> {
    const { clock, signal } = this.#context
    const beganMs = clock.now().monotonicMs
    await sleep(pauseMs, signal)
    return clock.now().monotonicMs - beganMs > 2 * pauseMs
  }

  async #disownStuck(): Promise<void> {
    const { clock, logger, ownership, progressTimeoutMs, session, withdrawals } = this.#context
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
      withdrawals.disown(stream, 'no-progress')
    })
  }
}

/** A call that is under way is a sign of work, and decides itself what becomes of the stream. */
function isStuck(stream: StreamHandle, session: Session, sinceMs: number): boolean {
  return stream.session === session && stream.progressAtMs <= sinceMs && !stream.isBusy && !stream.hasEnded
}
