/** Notices that nobody reads the notifications: the streams they tell of are owned, and nobody works on them. */
import type { SafeLogger } from '../logger.js'
import type { Deliveries } from '../ownership/deliveries.js'
import type { Ownership } from '../ownership/ownership.js'

/** How many TTLs a notification may wait. */
const PATIENCE_TTLS = 5

export interface UnreadWatchContext {
  readonly deliveries: Pick<Deliveries, 'countUntold' | 'oldestUnreadMs'>
  readonly ownership: Pick<Ownership, 'streams'>
  readonly heartbeatTtlMs: number
  readonly logger: SafeLogger
}

export class UnreadWatch {
  readonly #context: UnreadWatchContext
  #isStuck = false

  constructor(context: UnreadWatchContext) {
    this.#context = context
  }

  /** Warns once when a notification has waited for too long, and says when it has been read. */
  check(): void {
    const { deliveries, heartbeatTtlMs, logger, ownership } = this.#context
    const unreadMs = Math.round(deliveries.oldestUnreadMs)
    const wasStuck = this.#isStuck
    this.#isStuck = unreadMs > PATIENCE_TTLS * heartbeatTtlMs
    if (this.#isStuck && !wasStuck) {
      const untold = deliveries.countUntold(ownership.streams.values())
      logger.warn(
        { unreadMs, untold, owned: ownership.streams.size },
        'a notification waits to be read: the loop over the notifications must begin work and not await it',
      )
    } else if (wasStuck && !this.#isStuck) {
      logger.info({}, 'the notifications are read again')
    }
  }
}
