/** Hands notifications to the broker and measures how long they wait for room. */
import type { Notification, NotificationBroker, StreamExpired } from '@redis-stream-client/notifs'
import type { Clock } from '../decisions/clock.js'
import type { SafeRecorder } from '../metrics.js'
import { added, expired } from './notices.js'
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

  /** Resolves when it is queued, or will never be: the stream was disowned, the signal aborted, the broker closed. */
  async streamAdded(stream: StreamHandle, signal: AbortSignal): Promise<void> {
    if (stream.hasEnded) return // while it waited for its turn: StreamDisowned has gone ahead
    if (await this.#send(added(stream), signal)) stream.announce()
  }

  /** Resolves when it is queued, or will never be because the signal aborted or the broker closed. */
  async streamExpired(facts: Omit<StreamExpired, 'type'>, signal: AbortSignal): Promise<void> {
    await this.#send(expired(facts), signal)
  }

  async #send(notification: Notification, signal: AbortSignal): Promise<boolean> {
    const startMs = this.#clock.now().monotonicMs
    const isQueued = await this.#broker.send(notification, { signal })
    this.#recorder.notificationWait({ durationMs: this.#clock.now().monotonicMs - startMs })
    return isQueued
  }
}
