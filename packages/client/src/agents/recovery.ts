/**
 * What a session does once, right after it has begun: it takes what earlier sessions of its own client id left
 * behind, beside the reader, as far as capacity and the notification queue allow; the probe finds the rest.
 */
import type { Clock } from '../decisions/clock.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { StreamIntake } from '../ownership/stream-intake.js'
import { type Agent, type AgentContext, reportFailure } from './agent.js'

export interface RecoveryContext extends AgentContext {
  readonly intake: StreamIntake
  /** Consumers of the client's earlier sessions. */
  readonly former: readonly string[]
  readonly lbsRecoveryCount: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
}

export class Recovery implements Agent {
  readonly #context: RecoveryContext
  #running: Promise<void> | undefined

  constructor(context: RecoveryContext) {
    this.#context = context
  }

  /** Resolves when what was left is taken. Never rejects. A second call waits for the first. */
  run(): Promise<void> {
    this.#running ??= this.#recoverAll()
    return this.#running
  }

  async #recoverAll(): Promise<void> {
    const { clock, former, logger, recorder, signal } = this.#context
    const startMs = clock.now().monotonicMs
    let taken = 0
    try {
      for (const consumer of former) taken += await this.#recover(consumer)
    } catch (error) {
      if (!signal.aborted) reportFailure('recovery', error, logger)
    }
    const durationMs = clock.now().monotonicMs - startMs
    recorder.startupRecovery({ taken, durationMs })
    if (taken > 0)
      logger.info({ taken, durationMs }, 'took over what earlier sessions of this client had left')
  }

  async #recover(consumer: string): Promise<number> {
    const { intake, lbsRecoveryCount, signal } = this.#context
    let taken = 0
    while (!signal.aborted && intake.dealRoom > 0) {
      const count = Math.min(intake.dealRoom, lbsRecoveryCount)
      const { mayBeMore, won } = await intake.takeDealt({ from: consumer, count })
      taken += won
      if (!mayBeMore) break
    }
    return taken
  }
}
