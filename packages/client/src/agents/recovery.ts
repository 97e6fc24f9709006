/**
 * What a session does once, right after it has begun: it takes what earlier sessions of its own client id left
 * behind, and what other dead consumers have left lying for `lbsIdleTimeMs`. In pages, beside the reader, as far as
 * capacity and the notification queue allow; the probe finds the rest.
 */
import type { Clock } from '../decisions/clock.js'
import { clientIdOf } from '../decisions/consumer-name.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { Lbs } from '../redis/lbs.js'
import { isFallen, type RosterLine } from '../redis/service-scripts.js'
import type { Persistence } from '../session/persist.js'
import type { Session } from '../session/session.js'
import { type Agent, reportFailure } from './agent.js'
import type { Claims } from './claims.js'
import { pendingPages } from './pending-pages.js'
import type { RosterReader } from './roster-reader.js'

export interface RecoveryContext {
  readonly roster: RosterReader
  readonly lbs: Lbs
  readonly persistence: Persistence
  readonly claims: Claims
  readonly lbsIdleTimeMs: number
  readonly lbsRecoveryCount: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  /** Called when it has done what it can: what was put off meanwhile may go on. */
  readonly onEnd: () => void
}

export class Recovery implements Agent {
  readonly #context: RecoveryContext
  #isRunning = false

  constructor(context: RecoveryContext) {
    this.#context = context
  }

  /** True from the beginning of a session until this has done what it can. */
  get isRunning(): boolean {
    return this.#isRunning
  }

  async run(session: Session, signal: AbortSignal): Promise<void> {
    this.#isRunning = true
    try {
      await this.#recoverAll(session, signal)
    } finally {
      this.#isRunning = false
      this.#context.onEnd()
    }
  }

  async #recoverAll(session: Session, signal: AbortSignal): Promise<void> {
    const { clock, logger, recorder, roster: reader } = this.#context
    const startMs = clock.now().monotonicMs
    let taken = 0
    try {
      const roster = await reader.read(session)
      const fallen = roster.filter(isFallen)
      const isOwn = (line: RosterLine): boolean => clientIdOf(line.consumer) === session.clientId
      for (const line of fallen.filter(isOwn)) taken += await this.#recover(session, signal, line.consumer)
      for (const line of fallen.filter((each) => !isOwn(each))) {
        taken += await this.#recover(session, signal, line.consumer, this.#context.lbsIdleTimeMs)
      }
    } catch (error) {
      if (!signal.aborted) reportFailure('recovery', error, logger)
    }
    const durationMs = clock.now().monotonicMs - startMs
    recorder.startupRecovery({ taken, durationMs })
    if (taken > 0) logger.info({ taken, durationMs }, 'took over what dead sessions had left')
  }

  async #recover(session: Session, signal: AbortSignal, consumer: string, idleMs?: number): Promise<number> {
    const { claims, lbsRecoveryCount } = this.#context
    let taken = 0
    if (claims.room === 0) return taken
    const query = { consumer, pageSize: lbsRecoveryCount, idleMs }
    for await (const ids of pendingPages(this.#context, session, query)) {
      for (let rest = ids; rest.length > 0; ) {
        const count = claims.room
        if (count === 0 || signal.aborted) return taken
        taken += await claims.claimAndDeliver(session, signal, rest.slice(0, count))
        rest = rest.slice(count)
      }
    }
    return taken
  }
}
