/**
 * What a session does once, right after it has begun: it takes what earlier sessions of its own client id left
 * behind, beside the reader, as far as capacity and the notification queue allow; the probe finds the rest.
 */
import type { Clock } from '../decisions/clock.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { Session } from '../session/session.js'
import { reportFailure } from './agent.js'
import type { Dealer } from './dealer.js'

export interface RecoveryContext {
  readonly dealer: Dealer
  readonly lbsRecoveryCount: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
}

export class Recovery {
  readonly #context: RecoveryContext

  constructor(context: RecoveryContext) {
    this.#context = context
  }

  /** `former`: consumers of the client's earlier sessions. Never rejects. */
  async run(session: Session, signal: AbortSignal, former: readonly string[]): Promise<void> {
    const { clock, logger, recorder } = this.#context
    const startMs = clock.now().monotonicMs
    let taken = 0
    try {
      for (const consumer of former) taken += await this.#recover(session, signal, consumer)
    } catch (error) {
      if (!signal.aborted) reportFailure('recovery', error, logger)
    }
    const durationMs = clock.now().monotonicMs - startMs
    recorder.startupRecovery({ taken, durationMs })
    if (taken > 0)
      logger.info({ taken, durationMs }, 'took over what earlier sessions of this client had left')
  }

  async #recover(session: Session, signal: AbortSignal, consumer: string): Promise<number> {
    const { dealer, lbsRecoveryCount } = this.#context
    let taken = 0
    while (!signal.aborted && dealer.room > 0) {
      const count = Math.min(dealer.room, lbsRecoveryCount)
      const { mayBeMore, won } = await dealer.take(session, signal, { from: consumer, count })
      taken += won
      if (!mayBeMore) break
    }
    return taken
  }
}
