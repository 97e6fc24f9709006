/** Claims entries of dead or leaving clients by their ids, for the agents that need not ask the application. */
import type { Clock } from '../decisions/clock.js'
import type { SafeRecorder } from '../metrics.js'
import type { DeadLetters } from '../ownership/dead-letters.js'
import type { Deliveries } from '../ownership/deliveries.js'
import type { Ownership } from '../ownership/ownership.js'
import type { StreamTaker, Taken } from '../ownership/stream-taker.js'
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
import type { Persistence } from '../session/persist.js'
import type { Session } from '../session/session.js'

export interface ClaimsContext {
  readonly lbs: Lbs
  readonly persistence: Persistence
  readonly ownership: Ownership
  readonly taker: StreamTaker
  readonly deadLetters: DeadLetters
  readonly deliveries: Deliveries
  readonly clock: Clock
  readonly recorder: SafeRecorder
  /** An entry was met that is not in the LBS any more: its stream may have to be freed. */
  readonly onGone: () => void
}

export class Claims {
  readonly #context: ClaimsContext

  constructor(context: ClaimsContext) {
    this.#context = context
  }

  /** How many entries may be claimed or announced at once now: bounded by a batch, capacity and the queue. */
  get room(): number {
    return Math.min(BATCH_LIMIT, this.capacity, this.#context.deliveries.room)
  }

  /** How many more streams this client may own. */
  get capacity(): number {
    return this.#context.ownership.capacity
  }

  /**
   * The entries with these ids that can be served, as many at a time as may be in hand. Those that cannot go to the dead
   * letters, those that are not in the LBS any more are acknowledged.
   */
  async *readable(session: Session, ids: readonly string[]): AsyncGenerator<readonly ReadableEntry[], void> {
    for await (const part of entryParts(this.#context, session, ids)) {
      yield await this.#clear(session, part)
    }
  }

  /** Claims entries and delivers each stream won as StreamAdded. Answers how many were won. */
  async claimAndDeliver(session: Session, signal: AbortSignal, ids: readonly string[]): Promise<number> {
    const { ownership } = this.#context
    let won = 0
    // Places are reserved before anything is awaited: whoever asks for `room` next sees what is left.
    let reserved = ids.length
    ownership.reserve(reserved)
    try {
      for await (const part of entryParts(this.#context, session, ids)) {
        const taken = await this.#claim(session, part)
        ownership.unreserve(part.length)
        reserved -= part.length
        won += await this.#deliver(signal, taken)
      }
    } finally {
      ownership.unreserve(reserved)
    }
    return won
  }

  async #claim(session: Session, part: readonly FoundEntry[]): Promise<Taken[]> {
    const { clock, recorder, taker } = this.#context
    const startMs = clock.now().monotonicMs
    const taken = await taker.take(session, await this.#clear(session, part), 'claim')
    const durationMs = clock.now().monotonicMs - startMs
    for (const { outcome } of taken) recorder.claimAttempt({ outcome, durationMs })
    return taken
  }

  /** Answers how many streams are new. */
  async #deliver(signal: AbortSignal, taken: readonly Taken[]): Promise<number> {
    let won = 0
    for (const each of taken) {
      if (each.outcome !== 'taken' || !each.isNew) continue
      won++
      await this.#context.deliveries.streamAdded(each.stream, signal)
    }
    return won
  }

  /** Clears away what cannot be served; answers the rest. */
  async #clear(session: Session, part: readonly FoundEntry[]): Promise<ReadableEntry[]> {
    const { deadLetters, lbs, onGone, persistence } = this.#context
    const gone = part.filter(({ entry }) => entry === null).map(({ id }) => id)
    if (gone.length > 0) {
      await persistence.send('drop entries that are gone', session, () => lbs.acknowledge(gone))
      onGone()
    }
    const entries = part.map(({ entry }) => entry).filter((entry): entry is LbsEntry => entry !== null)
    const unreadable = entries.filter(isUnreadable)
    if (unreadable.length > 0) await deadLetters.buryUnreadable(session, unreadable)
    return entries.filter(isReadable)
  }
}
