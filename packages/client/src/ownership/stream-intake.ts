/**
 * How streams come to this client in one session, whoever has found their entries:
 *
 *   places are reserved ── the entries are taken ──> each stream that is won is delivered to the application
 *                       └─ there is no room for them any more ──> they are passed on to other clients
 *
 * A place is one stream that the client may own, and one notification in the queue.
 */
import { Trigger } from '../async/trigger.js'
import type { Clock } from '../decisions/clock.js'
import { isPool, POOL_OF_REBALANCED } from '../decisions/consumer-name.js'
import { PacedCount } from '../decisions/paced-count.js'
import type { SafeRecorder } from '../metrics.js'
import {
  type FoundEntry,
  isReadable,
  isUnreadable,
  type Lbs,
  type LbsEntry,
  type ReadableEntry,
} from '../redis/lbs.js'
import { BATCH_LIMIT } from '../redis/service-scripts.js'
import { entryParts } from '../session/entry-parts.js'
import type { Retries } from '../session/retries.js'
import type { Session } from '../session/session.js'
import type { DeadLetters } from './dead-letters.js'
import type { Dealer, DealtPortion, Portion } from './dealer.js'
import type { Deliveries } from './deliveries.js'
import type { Ownership } from './ownership.js'
import type { StreamHandle } from './stream-handle.js'
import { newStreams, type StreamTaker } from './stream-taker.js'

/** Entries that take so long to be dealt and taken are too many at once: heartbeats wait as long. */
const LONG_SHARE_OF_TTL = 0.2
/** How often room is looked for even if nothing has arrived. */
const LOOK_MS = 1000

export interface StreamIntakeContext {
  readonly session: Session
  /** Aborts when nothing more is to be taken. */
  readonly signal: AbortSignal
  readonly lbs: Lbs
  readonly retries: Retries
  readonly ownership: Ownership
  readonly taker: StreamTaker
  readonly dealer: Dealer
  readonly deadLetters: DeadLetters
  readonly deliveries: Deliveries
  readonly heartbeatTtlMs: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  /** An entry was met that is not in the LBS any more: its stream may have to be freed. */
  readonly onGone: () => void
  /** Streams have come from clients that had more than their share. */
  readonly onMoved: (count: number) => void
  /** Entries may be pending under this session that it has not taken: an answer was lost, or Redis has refused. */
  readonly onLeftPending: () => void
}

/** What became of a portion of entries. `won`: streams that are new to this client. */
export interface TakenPortion extends DealtPortion {
  readonly won: number
}

export class StreamIntake {
  readonly #context: StreamIntakeContext
  /** Entries that are being taken, and streams that wait for room in the notification queue. */
  #onTheirWay = 0
  readonly #arrival = new Trigger()
  readonly #pace: PacedCount

  constructor(context: StreamIntakeContext) {
    this.#context = context
    this.#pace = new PacedCount(BATCH_LIMIT, context.heartbeatTtlMs * LONG_SHARE_OF_TTL)
  }

  /** How many entries may be taken now: bounded by a batch, by what the client may own, and by the notification queue. */
  get room(): number {
    const { deliveries, ownership } = this.#context
    return Math.max(0, Math.min(BATCH_LIMIT, ownership.capacity, deliveries.room - this.#onTheirWay))
  }

  /** How many entries may be asked to be dealt now: fewer than there is room for while answers take long. */
  get dealRoom(): number {
    return Math.min(this.#pace.count, this.room)
  }

  /** Waits for room. Answers how much there is, 0 when the signal aborts. */
  async awaitRoom(): Promise<number> {
    const { deliveries, ownership, signal } = this.#context
    while (!signal.aborted) {
      const { room } = this
      if (room > 0) return room
      if (ownership.capacity === 0) await ownership.changed(signal)
      else if (deliveries.room > 0) await this.#arrival.wait(LOOK_MS, signal)
      else await deliveries.roomAvailable(signal)
    }
    return 0
  }

  /**
   * Takes entries that are pending under this session, and delivers the streams after what `before` stands for. Entries
   * that cannot be served go to the dead letters. Resolves when all are delivered; rejects as `StreamTaker.take` does, and
   * what was not taken stays pending.
   */
  async takeOwn(entries: readonly LbsEntry[], before?: Promise<unknown>): Promise<void> {
    const { deadLetters, session } = this.#context
    await this.#countOnTheirWay(entries.length, async () => {
      const [streams] = await Promise.all([
        this.#takeUpToCapacity(entries.filter(isReadable)),
        deadLetters.buryUnreadable(session, entries.filter(isUnreadable)),
      ])
      await before
      for (const stream of streams) await this.#deliver(stream)
    })
  }

  /** As `takeOwn`, of entries by their ids, as many at a time as may be in hand. */
  async takeOwnById(ids: readonly string[]): Promise<void> {
    for await (const part of entryParts(this.#context, this.#context.session, ids)) {
      await this.#acknowledgeGone(part)
      await this.takeOwn(part.flatMap(({ entry }) => entry ?? []))
    }
  }

  /** Has a portion of what waits for an owner dealt to this session, and takes it. Rejects as `takeOwn` does. */
  async takeDealt(portion: Portion): Promise<TakenPortion> {
    const { clock, dealer, onMoved, ownership, recorder, taker } = this.#context
    const startMs = clock.now().monotonicMs
    return await this.#countOnTheirWay(portion.count, () =>
      ownership.whileReserved(portion.count, async () => {
        const { entries, waitedMs, ...dealt } = await dealer.deal(portion, 'take')
        const dealtMs = clock.now().monotonicMs
        const taken = entries.length === 0 ? [] : await taker.take(entries, 'dealt')
        const durationMs = clock.now().monotonicMs - startMs
        this.#pace.hear(durationMs)
        for (const { outcome } of taken) recorder.claimAttempt({ outcome, durationMs })
        const streams = newStreams(taken)
        for (const stream of streams) {
          this.#noteOrigin(stream, portion.from, (waitedMs.get(stream.idInLbs) ?? 0) - dealtMs)
          await this.#deliver(stream)
        }
        if (portion.from === POOL_OF_REBALANCED && streams.length > 0) onMoved(streams.length)
        return { ...dealt, won: streams.length }
      }),
    )
  }

  /**
   * Takes as many entries as the client may own, because a claim may have used the room they were read for, and passes the
   * rest on. Answers the streams that are new.
   */
  async #takeUpToCapacity(entries: readonly ReadableEntry[]): Promise<StreamHandle[]> {
    const { ownership, taker } = this.#context
    ownership.reserve(entries.length)
    const count = entries.length - Math.min(entries.length, ownership.excess)
    ownership.unreserve(entries.length - count)
    try {
      const taken = newStreams(await taker.take(entries.slice(0, count), 'acquire'))
      if (count < entries.length) await taker.passOn(entries.slice(count))
      return taken
    } finally {
      ownership.unreserve(count)
    }
  }

  async #deliver(stream: StreamHandle): Promise<void> {
    const { deliveries, signal } = this.#context
    await deliveries.streamAdded(stream, signal)
  }

  /** Entries that have left the LBS and are still pending. */
  async #acknowledgeGone(part: readonly FoundEntry[]): Promise<void> {
    const { lbs, onGone, retries, session } = this.#context
    const gone = part.filter(({ entry }) => entry === null).map(({ id }) => id)
    if (gone.length === 0) return
    await retries.send('drop entries that are gone', session, () => lbs.acknowledge(gone))
    onGone()
  }

  /** `givenBackMs`: on the clock of this process. */
  #noteOrigin(stream: StreamHandle, from: string, givenBackMs: number): void {
    const { clock, recorder } = this.#context
    if (from === POOL_OF_REBALANCED) stream.markMoved()
    if (isPool(from)) recorder.ownerlessGap({ durationMs: clock.now().monotonicMs + givenBackMs })
  }

  /** Counts entries as on their way. Where something fails, some of them may be left pending. */
  async #countOnTheirWay<T>(count: number, act: () => Promise<T>): Promise<T> {
    this.#onTheirWay += count
    try {
      return await act()
    } catch (error) {
      this.#context.onLeftPending()
      throw error
    } finally {
      this.#onTheirWay -= count
      this.#arrival.fire()
    }
  }
}
