/**
 * The streams this client owns, and how ownership ends.
 *
 *   taken ──> owned ── done, release ──> left by its owner's own will
 *             owned ── session over ('session-lost'), record another's ('taken-over'), entry deleted ('entry-gone'),
 *                      no sign of work ('no-progress'; then it is given back)
 *                      ──> disowned: StreamDisowned, or nothing if the application had not got StreamAdded yet
 *             owned ── client closes ──> released or done, no notification of its own
 *
 * In memory only: what Redis holds is changed by StreamTaker and StreamChanges.
 */
import type { DisownReason, NotificationBroker } from '@redis-stream-client/notifs'
import { retract } from '@redis-stream-client/notifs/internal'
import { inSlices } from '../async/in-slices.js'
import type { Clock } from '../decisions/clock.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { Session } from '../session/session.js'
import { disowned } from './notices.js'
import { ReadOnlyMap } from './read-only-map.js'
import type { StreamHandle } from './stream-handle.js'

export interface OwnershipContext {
  readonly broker: NotificationBroker
  readonly maxOwnedStreams: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
}

export class Ownership {
  readonly #context: OwnershipContext
  readonly #streams = new Map<string, StreamHandle>()
  /** What others may look at, the application among them. */
  readonly streams: ReadonlyMap<string, StreamHandle> = new ReadOnlyMap(this.#streams)
  /** Places for streams that are being taken. */
  #reserved = 0
  #onChange: (() => void)[] = []

  constructor(context: OwnershipContext) {
    this.#context = context
  }

  /** True once this client takes nothing any more, though its session goes on. */
  isDraining = false

  /** How many more streams this client may own. */
  get capacity(): number {
    if (this.isDraining) return 0
    return Math.max(0, this.#context.maxOwnedStreams - this.#streams.size - this.#reserved)
  }

  /** Streams owned and places reserved. */
  get held(): number {
    return this.#streams.size + this.#reserved
  }

  /** How many of the places reserved are more than allowed: a claim was faster than a read sent before it. */
  get excess(): number {
    if (this.isDraining) return this.held
    return Math.max(0, this.#streams.size + this.#reserved - this.#context.maxOwnedStreams)
  }

  reserve(places: number): void {
    this.#reserved += places
  }

  unreserve(places: number): void {
    this.#reserved -= places
    this.#changed()
  }

  /** Keeps places for streams while they are asked for. */
  async whileReserved<T>(places: number, act: () => Promise<T>): Promise<T> {
    this.reserve(places)
    try {
      return await act()
    } finally {
      this.unreserve(places)
    }
  }

  /** Resolves when a place has become free, a stream has left, or the signal aborts. */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve()
      const done = (): void => {
        signal.removeEventListener('abort', done)
        resolve()
      }
      signal.addEventListener('abort', done, { once: true })
      this.#onChange.push(done)
    })
  }

  /** Enters a stream that was just taken. If one of this name is still listed, it was lost unnoticed and is disowned first. */
  add(stream: StreamHandle): void {
    const earlier = this.#streams.get(stream.dataStreamName)
    if (earlier !== undefined) {
      if (earlier.isLeaving) this.leave(earlier, 'done')
      else this.disown(earlier, 'taken-over')
    }
    this.#streams.set(stream.dataStreamName, stream)
    this.#context.recorder.streamStarted({ recovered: stream.recovered })
  }

  /** The owner has finished the stream or given it back. */
  leave(stream: StreamHandle, operation: 'done' | 'release'): void {
    if (stream.hasEnded) return
    this.#remove(stream, operation)
    stream.end(operation)
    this.#changed()
  }

  /** Somebody or something else has ended ownership. */
  disown(stream: StreamHandle, reason: DisownReason): void {
    if (stream.hasEnded) return
    const { broker, logger, recorder } = this.#context
    this.#remove(stream, 'disowned')
    stream.end(reason)
    recorder.disowned({ reason })
    const { dataStreamName, idInLbs } = stream
    logger.debug({ dataStreamName, idInLbs, reason }, 'disowned')
    if (!retract(broker, stream)) {
      // StreamDisowned is exempt from the limit of the queue: this does not wait.
      void broker.send(disowned(stream, reason))
    }
    this.#changed()
  }

  /** Disowns all streams of a session that is over, without holding up the event loop. */
  async disownAll(session: Session): Promise<void> {
    const streams = [...this.#streams.values()].filter((stream) => stream.session === session)
    for (const stream of streams) this.#streams.delete(stream.dataStreamName)
    await inSlices(streams, (stream) => this.disown(stream, 'session-lost'))
  }

  #remove(stream: StreamHandle, operation: 'done' | 'release' | 'disowned'): void {
    if (this.#streams.get(stream.dataStreamName) === stream) this.#streams.delete(stream.dataStreamName)
    const durationMs = this.#context.clock.now().monotonicMs - stream.takenAtMs
    this.#context.recorder.streamFinished({ operation, durationMs })
  }

  /** Wakes those who wait for a change. */
  noteChange(): void {
    this.#changed()
  }

  #changed(): void {
    const listeners = this.#onChange
    if (listeners.length === 0) return
    this.#onChange = []
    for (const listener of listeners) listener()
  }
}
