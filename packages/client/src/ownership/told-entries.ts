/**
 * Entries the application was told of (StreamExpired) in the name of a session and may be about to claim. Each reserves a place for a while,
 * so that the application is not told of more streams than the client may own. No entry is told again while its
 * StreamExpired has not been read, while it is being claimed, or while the stream is owned: the application would begin
 * its work twice.
 */
import type { NotificationBroker, StreamExpired } from '@redis-stream-client/notifs'
import { isExpiredUnread } from '@redis-stream-client/notifs/internal'
import type { Clock } from '../decisions/clock.js'
import { KeyedBackoff } from '../decisions/keyed-backoff.js'

interface Told {
  readonly notification: StreamExpired
  readonly untilMs: number
}

export interface ToldEntriesContext {
  readonly broker: NotificationBroker
  readonly clock: Clock
  /** How long the application may take to claim what it has been told of. */
  readonly heartbeatTtlMs: number
  readonly lbsIdleTimeMs: number
}

export class ToldEntries {
  readonly #context: ToldEntriesContext
  /** By entry, the oldest first. */
  readonly #told = new Map<string, Told>()
  readonly #claiming = new Map<string, number>()
  /** When each may be told of again. */
  readonly #repeats: KeyedBackoff
  /** Places for entries that are being dealt. */
  #reserved = 0

  /** `unread`: what the application was told of in an earlier session, and has not read. */
  constructor(context: ToldEntriesContext, unread: readonly StreamExpired[] = []) {
    this.#context = context
    this.#repeats = new KeyedBackoff(context.heartbeatTtlMs, context.lbsIdleTimeMs)
    for (const notification of unread) this.add(notification)
  }

  /** What the application has not read. */
  get unread(): StreamExpired[] {
    const told = [...this.#told.values()].map(({ notification }) => notification)
    return told.filter((notification) => isExpiredUnread(this.#context.broker, notification))
  }

  /** How many the application may be about to claim. */
  get count(): number {
    const nowMs = this.#context.clock.now().monotonicMs
    for (const [id, { notification, untilMs }] of this.#told) {
      if (untilMs > nowMs || isExpiredUnread(this.#context.broker, notification)) break
      this.#told.delete(id)
    }
    return this.#told.size + this.#reserved
  }

  /** Keeps places for entries while they are dealt. */
  async whileReserved<T>(places: number, act: () => Promise<T>): Promise<T> {
    this.#reserved += places
    try {
      return await act()
    } finally {
      this.#reserved -= places
    }
  }

  /**
   * Whether the application may be told of an entry: not while it has not read that it was, or claims it, and then
   * only after one TTL, two, four, up to `lbsIdleTimeMs`.
   */
  isDue(idInLbs: string): boolean {
    const nowMs = this.#context.clock.now().monotonicMs
    this.#repeats.forgetOld(nowMs)
    return this.#repeats.isDue(idInLbs, nowMs) && !this.#isOpen(idInLbs)
  }

  #isOpen(idInLbs: string): boolean {
    if (this.#claiming.has(idInLbs)) return true
    const told = this.#told.get(idInLbs)
    return told !== undefined && isExpiredUnread(this.#context.broker, told.notification)
  }

  add(notification: StreamExpired): void {
    const { idInLbs } = notification.payload
    this.#told.delete(idInLbs) // keeps the map in the order of time
    const nowMs = this.#context.clock.now().monotonicMs
    this.#told.set(idInLbs, { notification, untilMs: nowMs + this.#context.heartbeatTtlMs })
    this.#repeats.note(idInLbs, nowMs)
  }

  /** The application claims an entry: its place is the claim's now. */
  async whileClaiming<T>(idInLbs: string, claim: () => Promise<T>): Promise<T> {
    this.#told.delete(idInLbs)
    this.#claiming.set(idInLbs, (this.#claiming.get(idInLbs) ?? 0) + 1)
    try {
      return await claim()
    } finally {
      const left = (this.#claiming.get(idInLbs) ?? 1) - 1
      if (left > 0) this.#claiming.set(idInLbs, left)
      else this.#claiming.delete(idInLbs)
    }
  }
}
