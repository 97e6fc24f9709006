/**
 * Compares what this client believes with what Redis says, after every beginning, every reconnect and every
 * `lbsIdleTimeMs`: an answer that was lost is found here.
 *
 * What is pending under our consumer and unknown to us is taken (or it had been taken: then it is adopted).
 * What we believe to own and Redis does not is disowned. Streams with an operation under way are left out.
 */

import type { Trigger } from '../async/trigger.js'
import { batchesOf } from '../decisions/batches.js'
import type { SafeLogger } from '../logger.js'
import type { Ownership } from '../ownership/ownership.js'
import type { StreamHandle } from '../ownership/stream-handle.js'
import type { StreamIntake } from '../ownership/stream-intake.js'
import type { StreamTaker } from '../ownership/stream-taker.js'
import type { Lbs } from '../redis/lbs.js'
import type { LockRecords } from '../redis/lock-records.js'
import { BATCH_LIMIT, type ServiceScripts } from '../redis/service-scripts.js'
import type { Retries } from '../session/retries.js'
import { KEY_LOST } from '../session/session.js'
import { type Agent, type AgentContext, repeat, reportFailure } from './agent.js'
import { pendingPages } from './pending-pages.js'

const PAGE = 1000
/** Streams whose entries are looked for in the LBS each time. */
const SHARE = 1000

export interface ReconcilerContext extends AgentContext {
  readonly scripts: ServiceScripts
  readonly lbs: Lbs
  readonly records: LockRecords
  readonly retries: Retries
  readonly taker: StreamTaker
  readonly ownership: Ownership
  readonly intake: StreamIntake
  /** Whether the stream of an entry is about to be given back: nothing in this client takes it before. */
  readonly isGivingBack: (idInLbs: string) => boolean
  readonly lbsIdleTimeMs: number
  readonly logger: SafeLogger
  /** Fired when an answer may have been lost. */
  readonly trigger: Trigger
  /** Called each time: sets again what the server has lost in a restart or failover. */
  readonly onRound: () => void
}

export class Reconciler implements Agent {
  readonly #context: ReconcilerContext
  #shareStart = 0

  constructor(context: ReconcilerContext) {
    this.#context = context
  }

  async run(): Promise<void> {
    const { lbsIdleTimeMs, logger, signal, trigger } = this.#context
    trigger.fire()
    await repeat('reconciliation', signal, logger, async () => {
      await trigger.wait(lbsIdleTimeMs, signal)
      if (signal.aborted) return
      await this.#reconcile()
    })
  }

  async #reconcile(): Promise<void> {
    try {
      this.#context.onRound()
      await this.#takeUnknown()
      await this.#confirmOwned()
    } catch (error) {
      this.#context.trigger.fire()
      throw error
    }
  }

  async #takeUnknown(): Promise<void> {
    const { intake, isGivingBack, ownership, session, signal, taker } = this.#context
    const known = new Set([...ownership.streams.values()].map((stream) => stream.idInLbs))
    for await (const ids of pendingPages(this.#context, session, {
      consumer: session.consumer,
      pageSize: PAGE,
    })) {
      const unknown = ids.filter((id) => !known.has(id) && !taker.isUnderWay(id) && !isGivingBack(id))
      for (let start = 0; start < unknown.length; start += BATCH_LIMIT) {
        await intake.takeOwnById(unknown.slice(start, start + BATCH_LIMIT))
      }
      if (signal.aborted) return
    }
  }

  /** Compares the lock table with what is owned, and a share of what is owned with the LBS. */
  async #confirmOwned(): Promise<void> {
    const { ownership, session, signal } = this.#context
    const streams = [...ownership.streams.values()].filter((stream) => stream.session === session)
    const suspects = new Set(this.#nextShare(streams))
    for (let start = 0; start < streams.length && !signal.aborted; start += PAGE) {
      for (const stream of await this.#differing(streams.slice(start, start + PAGE))) suspects.add(stream)
    }
    const bytesOfName = (stream: StreamHandle): number => Buffer.byteLength(stream.dataStreamName)
    for (const batch of batchesOf([...suspects], BATCH_LIMIT, bytesOfName)) {
      if (signal.aborted) return
      const quiet = batch.filter((stream) => !stream.isBusy && !stream.hasEnded)
      if (quiet.length > 0) await this.#confirm(quiet)
    }
  }

  /** Streams whose entries are looked for in the LBS this time: the share moves on each time. */
  #nextShare(streams: readonly StreamHandle[]): readonly StreamHandle[] {
    const start = this.#shareStart < streams.length ? this.#shareStart : 0
    this.#shareStart = start + SHARE
    return streams.slice(start, start + SHARE)
  }

  /** Those of the streams of which the lock table says something else. */
  async #differing(streams: readonly StreamHandle[]): Promise<StreamHandle[]> {
    const { records, retries, session } = this.#context
    const names = streams.map((stream) => stream.dataStreamName)
    const found = await retries.send('read lock records', session, () => records.of(names))
    return streams.filter((stream, index) => {
      const record = found[index]
      return record?.fencingToken !== stream.fencingToken || record.consumer !== session.consumer
    })
  }

  /** A damaged record must not keep the others from being looked at. */
  async #confirm(streams: readonly StreamHandle[]): Promise<void> {
    try {
      await this.#confirmBatch(streams)
    } catch (error) {
      if (!this.#context.session.isHeld()) throw error
      if (streams.length === 1) return reportFailure('reconciliation', error, this.#context.logger)
      for (const stream of streams) await this.#confirm([stream])
    }
  }

  async #confirmBatch(streams: readonly StreamHandle[]): Promise<void> {
    const { ownership, retries, scripts, session, taker } = this.#context
    const answers = await retries.send('confirm owned streams', session, () =>
      scripts.confirm(session, streams),
    )
    if (answers === 'SESSION_LOST') {
      session.end(KEY_LOST)
      return
    }
    const gone: StreamHandle[] = []
    streams.forEach((stream, index) => {
      if (stream.isBusy || !session.isHeld()) return
      if (answers[index] === 'LOST') ownership.disown(stream, 'taken-over')
      if (answers[index] !== 'GONE') return
      ownership.disown(stream, 'entry-gone')
      gone.push(stream)
    })
    await taker.free(gone)
  }
}
