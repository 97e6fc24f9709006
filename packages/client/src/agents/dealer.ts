/**
 * Has entries dealt to this session that wait for an owner under a dead consumer or in the pool, and takes them.
 * Nobody else is dealt the same entries.
 */
import type { Clock } from '../decisions/clock.js'
import { isPool, POOL_OF_REBALANCED } from '../decisions/consumer-name.js'
import { PacedCount } from '../decisions/paced-count.js'
import type { SafeRecorder } from '../metrics.js'
import type { DeadLetters } from '../ownership/dead-letters.js'
import type { Deliveries } from '../ownership/deliveries.js'
import type { Ownership } from '../ownership/ownership.js'
import type { StreamHandle } from '../ownership/stream-handle.js'
import type { StreamTaker } from '../ownership/stream-taker.js'
import {
  type FoundEntry,
  isReadable,
  isUnreadable,
  type Lbs,
  type LbsEntry,
  type ReadableEntry,
} from '../redis/lbs.js'
import { BATCH_LIMIT, type DealRules, type ServiceScripts } from '../redis/service-scripts.js'
import { entryParts } from '../session/entry-parts.js'
import { endLost, type Retries } from '../session/retries.js'
import type { AgentContext } from './agent.js'

/** The application has so many staggers to claim what it is told of, and at least this long. */
const STAGGERS_TO_CLAIM = 3
const LEAST_TIME_TO_CLAIM_MS = 20

/** Entries that take so long to be dealt and taken are too many at once: heartbeats wait as long. */
const LONG_SHARE_OF_TTL = 0.2

export interface DealerContext extends AgentContext {
  readonly scripts: ServiceScripts
  readonly lbs: Lbs
  readonly retries: Retries
  readonly ownership: Ownership
  readonly taker: StreamTaker
  readonly deadLetters: DeadLetters
  readonly deliveries: Deliveries
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly claimStaggerMs: number
  readonly heartbeatTtlMs: number
  readonly lbsIdleTimeMs: number
  /** An entry was met that is not in the LBS any more: its stream may have to be freed. */
  readonly onGone: () => void
  /** Streams have come from clients that had more than their share. */
  readonly onMoved: (count: number) => void
  /** Entries may be pending under this session that it has not taken: an answer was lost, or Redis has refused. */
  readonly onNotTaken: () => void
}

/** Entries of some consumer. */
export interface Portion {
  readonly from: string
  readonly count: number
  /** Only entries that have waited for so long. */
  readonly idleMs?: number
}

export interface DealtEntries {
  readonly entries: readonly ReadableEntry[]
  /** How long each entry has waited, by its id. */
  readonly waitedMs: ReadonlyMap<string, number>
  /** How many entries do not wait there any more: those dealt, and those that were gone. */
  readonly handled: number
  readonly mayBeMore: boolean
  /** How long what was asked for is kept from this client. */
  readonly waitMs: number
}

export interface TakenEntries extends Omit<DealtEntries, 'entries' | 'waitedMs'> {
  /** Streams that are new to this client. */
  readonly won: number
}

export class Dealer {
  readonly #context: DealerContext
  readonly #batch: PacedCount

  constructor(context: DealerContext) {
    this.#context = context
    this.#batch = new PacedCount(BATCH_LIMIT, context.heartbeatTtlMs * LONG_SHARE_OF_TTL)
  }

  /** How many entries may be asked for at once now: bounded by a batch, capacity and the queue. */
  get room(): number {
    const { deliveries, ownership } = this.#context
    return Math.min(this.#batch.count, ownership.capacity, deliveries.room)
  }

  /** Takes a portion and delivers each stream won as StreamAdded. Places are reserved before anything is sent. */
  async take(portion: Portion): Promise<TakenEntries> {
    const { clock, deliveries, ownership, recorder, signal, taker } = this.#context
    const startMs = clock.now().monotonicMs
    ownership.reserve(portion.count)
    try {
      const { entries, handled, mayBeMore, waitedMs, waitMs } = await this.deal(portion, 'take')
      const dealtMs = clock.now().monotonicMs
      const taken = entries.length === 0 ? [] : await taker.take(entries, 'dealt')
      const durationMs = clock.now().monotonicMs - startMs
      this.#batch.hear(durationMs)
      let won = 0
      for (const each of taken) {
        recorder.claimAttempt({ outcome: each.outcome, durationMs })
        if (each.outcome !== 'taken' || !each.isNew) continue
        won++
        this.#noteOrigin(each.stream, portion.from, (waitedMs.get(each.stream.idInLbs) ?? 0) - dealtMs)
        await deliveries.streamAdded(each.stream, signal)
      }
      if (portion.from === POOL_OF_REBALANCED && won > 0) this.#context.onMoved(won)
      return { handled, won, mayBeMore, waitMs }
    } catch (error) {
      this.#context.onNotTaken()
      throw error
    } finally {
      ownership.unreserve(portion.count)
    }
  }

  /**
   * Has a portion dealt: with `take` the entries are pending under this session now, with `tell` they wait until the
   * application has claimed them or its time is over. Those that cannot be served go to the dead letters.
   */
  async deal(portion: Portion, mode: DealRules['mode']): Promise<DealtEntries> {
    const { claimStaggerMs, heartbeatTtlMs, lbs, lbsIdleTimeMs, retries, scripts, session } = this.#context
    const rules: DealRules = {
      mode,
      idleMs: portion.idleMs ?? 0,
      tellMs: Math.max(STAGGERS_TO_CLAIM * claimStaggerMs, LEAST_TIME_TO_CLAIM_MS),
      tellAgainMs: heartbeatTtlMs,
      greatestMs: lbsIdleTimeMs,
    }
    let tries = 0
    const dealt = await retries.send('have entries dealt', session, () => {
      if (tries++ > 0) this.#context.onNotTaken()
      return scripts.deal(session, portion.from, portion.count, rules)
    })
    if (dealt === 'SESSION_LOST') throw endLost('have entries dealt', session)
    const { gone, mayBeMore, waitMs } = dealt
    if (gone > 0) this.#context.onGone()
    const entries = await lbs.decode(dealt.entries)
    const waitedMs = new Map(entries.map(({ id }, index) => [id, dealt.waitedMs[index] as number]))
    const handled = dealt.entries.length + gone
    return { entries: await this.#readableOf(entries), handled, waitedMs, mayBeMore, waitMs }
  }

  /** `givenBackMs`: on the clock of this process. */
  #noteOrigin(stream: StreamHandle, from: string, givenBackMs: number): void {
    const { clock, recorder } = this.#context
    if (from === POOL_OF_REBALANCED) stream.markMoved()
    if (isPool(from)) recorder.ownerlessGap({ durationMs: clock.now().monotonicMs + givenBackMs })
  }

  /**
   * The entries with these ids that can be served, as many at a time as may be in hand. Those that cannot go to the dead
   * letters, those that are not in the LBS any more are acknowledged.
   */
  async *readable(ids: readonly string[]): AsyncGenerator<readonly ReadableEntry[], void> {
    for await (const part of entryParts(this.#context, this.#context.session, ids)) {
      yield await this.#clear(part)
    }
  }

  async #clear(part: readonly FoundEntry[]): Promise<ReadableEntry[]> {
    const { lbs, onGone, retries, session } = this.#context
    const gone = part.filter(({ entry }) => entry === null).map(({ id }) => id)
    if (gone.length > 0) {
      await retries.send('drop entries that are gone', session, () => lbs.acknowledge(gone))
      onGone()
    }
    return await this.#readableOf(
      part.map(({ entry }) => entry).filter((entry): entry is LbsEntry => entry !== null),
    )
  }

  async #readableOf(entries: readonly LbsEntry[]): Promise<ReadableEntry[]> {
    const { deadLetters, session } = this.#context
    const unreadable = entries.filter(isUnreadable)
    if (unreadable.length > 0) await deadLetters.buryUnreadable(session, unreadable)
    return entries.filter(isReadable)
  }
}
