/**
 * Tells the application of streams that wait for an owner, in manual mode: it is sent StreamExpired and claims. What it is
 * told of waits under a name that says so, until it is claimed or the time for that is over.
 */
import type { StreamExpired } from '@redis-stream-client/notifs'
import { clientIdOf, isPool } from '../decisions/consumer-name.js'
import type { ReadableEntry } from '../redis/lbs.js'
import type { LockRecords } from '../redis/lock-records.js'
import type { Session } from '../session/session.js'
import type { Dealer, DealtPortion, Portion } from './dealer.js'
import type { Deliveries } from './deliveries.js'
import { expired } from './notices.js'
import type { Ownership } from './ownership.js'
import type { StreamTaker } from './stream-taker.js'
import type { ToldEntries } from './told-entries.js'

export interface StreamOffersContext {
  readonly session: Session
  /** Aborts when nothing more is to be told. */
  readonly signal: AbortSignal
  readonly dealer: Dealer
  readonly told: ToldEntries
  readonly records: LockRecords
  readonly ownership: Ownership
  readonly taker: StreamTaker
  readonly deliveries: Deliveries
}

export class StreamOffers {
  readonly #context: StreamOffersContext

  constructor(context: StreamOffersContext) {
    this.#context = context
  }

  /**
   * Has a portion of what waits dealt to this session, and tells the application. Resolves when the notifications are
   * queued; rejects with SESSION_LOST, REDIS_ERROR.
   */
  async offer(portion: Portion): Promise<DealtPortion> {
    const { dealer, deliveries, signal, told } = this.#context
    const { dealt, notifications } = await told.whileReserved(portion.count, async () => {
      const { entries, ...rest } = await dealer.deal(portion, 'tell')
      const due = await this.#notificationsOf(portion.from, entries)
      for (const notification of due) told.add(notification)
      return { dealt: rest, notifications: due }
    })
    await Promise.all(notifications.map((notification) => deliveries.streamExpired(notification, signal)))
    return dealt
  }

  /** Without those that have an owner, and those the application knows of already. */
  async #notificationsOf(from: string, entries: readonly ReadableEntry[]): Promise<StreamExpired[]> {
    const { ownership, records, session, taker, told } = this.#context
    const found = await records.of(entries.map(({ message }) => message.dataStreamName))
    return entries.flatMap(({ id, message }, index): StreamExpired[] => {
      const { dataStreamName } = message
      const record = found[index]?.idInLbs === id ? found[index] : null
      const isOwn =
        record?.consumer === session.consumer || ownership.streams.get(dataStreamName)?.idInLbs === id
      if (isOwn || taker.isUnderWay(id) || !told.isDue(id)) return []
      const owner = record?.consumer ?? (record === null && !isPool(from) ? from : null)
      return [
        expired({
          payload: { dataStreamName, idInLbs: id },
          message,
          previousOwner: owner === null ? null : clientIdOf(owner),
        }),
      ]
    })
  }
}
