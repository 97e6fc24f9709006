/** Hands notifications to the broker and measures how long they wait for room. */
import type { Notification, NotificationBroker, StreamExpired } from '@redis-stream-client/notifs'
import { isUnread, oldestUnreadMs, retract, roomAvailable } from '@redis-stream-client/notifs/internal'
import type { Clock } from '../decisions/clock.js'
import type { SafeRecorder } from '../metrics.js'
import { added } from './notices.js'
import type { StreamHandle } from './stream-handle.js'

export class Deliveries {
  readonly #broker: NotificationBroker
  readonly #clock: Clock
  readonly #recorder: SafeRecorder

  constructor(broker: NotificationBroker, clock: Clock, recorder: SafeRecorder) {
    this.#broker = broker
    this.#clock = clock
    this.#recorder = recorder
  }

  /** Notifications that can be queued without waiting. */
  get room(): number {
    return this.#broker.room
  }

  /** Resolves when there may be room, or the signal aborts. */
  roomAvailable(signal: AbortSignal): Promise<void> {
    return roomAvailable(this.#broker, signal)
  }

  /** Milliseconds since the oldest notification was sent that nobody has read; 0 if there is none. */
  get oldestUnreadMs(): number {
    return oldestUnreadMs(this.#broker)
  }

  /** How many of these streams the application has not read of, and has not claimed itself. */
  countUntold(streams: Iterable<StreamHandle>): number {
    let count = 0
    for (const stream of streams) {
      if (!stream.isAnnounced || isUnread(this.#broker, stream)) count++
    }
    return count
  }

  /** Whether the application has not read of a stream yet. */
  isUnread(stream: StreamHandle): boolean {
    return isUnread(this.#broker, stream)
  }

  /** How many of these streams cannot be asked to move: their application has read of them, and not their signal. */
  countUnmovable(streams: Iterable<StreamHandle>): number {
    let count = 0
    for (const stream of streams) if (!stream.hasSignal && !isUnread(this.#broker, stream)) count++
    return count
  }

  /** Takes back a StreamAdded that nobody has read. True if there was one. */
  retract(stream: StreamHandle): boolean {
    return retract(this.#broker, stream)
  }

  /** Resolves when it is queued, or will never be: the stream was disowned, the signal aborted, the broker closed. */
  async streamAdded(stream: StreamHandle, signal: AbortSignal): Promise<void> {
    if (stream.hasEnded) return // while it waited for its turn: StreamDisowned has gone ahead
    if (await this.#send(added(stream), signal)) stream.announce()
  }

  /** Resolves when it is queued, or will never be because the signal aborted or the broker closed. */
  async streamExpired(notification: StreamExpired, signal: AbortSignal): Promise<void> {
    await this.#send(notification, signal)
  }

  async #send(notification: Notification, signal: AbortSignal): Promise<boolean> {
    const startMs = this.#clock.now().monotonicMs
    const isQueued = await this.#broker.send(notification, { signal })
    this.#recorder.notificationWait({ durationMs: this.#clock.now().monotonicMs - startMs })
    return isQueued
  }
}
