/**
 * Streams this client has given back and nobody has taken yet. Their entries stay pending under this session's
 * consumer, so the search for dead clients does not find them: whoever gave them back offers them, again and again.
 */
import type { Clock } from '../decisions/clock.js'
import { encodeFailoverMessage } from '../decisions/failover-message.js'
import type { LockRecords } from '../redis/lock-records.js'
import { BATCH_LIMIT } from '../redis/service-scripts.js'
import type { Session } from '../session/session.js'
import type { StreamHandle } from './stream-handle.js'

interface Released {
  readonly session: Session
  readonly dataStreamName: string
  readonly atMs: number
  /** Redis does not know yet. */
  readonly isUnderWay: boolean
  /** Given back for want of room only: its owner would serve it if it had some. */
  isSurplus: boolean
}

/** How long the others have the first choice. */
export interface Precedence {
  readonly releasedMs: number
  readonly surplusMs: number
}

export class ReleasedStreams {
  readonly #records: LockRecords
  readonly #clock: Clock
  readonly #released = new Map<string, Released>()

  constructor(records: LockRecords, clock: Clock) {
    this.#records = records
    this.#clock = clock
  }

  add(streams: readonly StreamHandle[]): void {
    for (const stream of streams) this.#note(stream, false)
  }

  /** A stream is about to be given back: this client must not take it meanwhile. Followed by `add` or `forget`. */
  expect(stream: StreamHandle): void {
    this.#note(stream, true)
  }

  forget({ idInLbs }: StreamHandle): void {
    this.#released.delete(idInLbs)
  }

  /** Says of one that was given back that only room was missing. */
  markSurplus(idInLbs: string): void {
    const released = this.#released.get(idInLbs)
    if (released !== undefined) released.isSurplus = true
  }

  has(idInLbs: string): boolean {
    return this.#released.has(idInLbs)
  }

  /** Forgets what an ended session gave back: its consumer is dead, so the others find it. */
  forgetSession(session: Session): void {
    for (const [id, released] of this.#released) {
      if (released.session === session) this.#released.delete(id)
    }
  }

  /** Those still waiting for an owner, and those the others have left for so long. Forgets the rest. */
  async waiting({ releasedMs, surplusMs }: Precedence): Promise<{ ids: string[]; unwanted: string[] }> {
    const entries = [...this.#released].filter(([, { isUnderWay }]) => !isUnderWay)
    for (let start = 0; start < entries.length; start += BATCH_LIMIT) {
      const batch = entries.slice(start, start + BATCH_LIMIT)
      const records = await this.#records.of(batch.map(([, { dataStreamName }]) => dataStreamName))
      batch.forEach(([id, released], index) => {
        const record = records[index]
        const isTaken = record?.idInLbs !== id || record.consumer !== null
        if (isTaken && this.#released.get(id) === released) this.#released.delete(id)
      })
    }
    const nowMs = this.#clock.now().monotonicMs
    const waiting = [...this.#released].filter(([, { isUnderWay }]) => !isUnderWay)
    const unwanted = waiting.filter(
      ([, { atMs, isSurplus }]) => nowMs - atMs >= (isSurplus ? surplusMs : releasedMs),
    )
    return { ids: waiting.map(([id]) => id), unwanted: unwanted.map(([id]) => id) }
  }

  #note({ dataStreamName, idInLbs, session }: StreamHandle, isUnderWay: boolean): void {
    const atMs = this.#clock.now().monotonicMs
    this.#released.set(idInLbs, { session, dataStreamName, atMs, isUnderWay, isSurplus: false })
  }
}

/** The message that offers streams of a session. */
export function formatOffer(consumer: string, ids: readonly string[]): string {
  return encodeFailoverMessage({ type: 'released', consumer, ids })
}
