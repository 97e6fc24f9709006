/** Logs which handlers take long, so that the reason of a growing lag can be found in the log. */
import type { SafeLogger } from '@redis-stream-client/client/internal'
import type { StreamRecord } from '@redis-stream-client/handling'
import type { StreamRun } from '../progress/stream-run.js'

export interface SlowHandlersContext {
  readonly warnAfterMs: number
  readonly logger: SafeLogger
}

export class SlowHandlers {
  readonly #context: SlowHandlersContext

  constructor(context: SlowHandlersContext) {
    this.#context = context
  }

  /** Writes one line about the call under way if it has lasted for longer than the bound; only once for each call. */
  check({ attempt, name }: StreamRun, nowMs: number): void {
    if (attempt === null || attempt.isKnownSlow) return
    const { logger, warnAfterMs } = this.#context
    const runningMs = Math.round(nowMs - attempt.startedAtMs)
    if (runningMs < warnAfterMs) return
    attempt.isKnownSlow = true
    const [first] = attempt.records as [StreamRecord]
    logger.warn(
      { dataStreamName: name, record: first.id, attempt: attempt.number, runningMs, warnAfterMs },
      'a handler takes long: its stream waits until it ends',
    )
  }
}
