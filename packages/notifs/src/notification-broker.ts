/**
 * Many producers, one async iterator: bounded, ordered, nothing lost and nothing sent after close.
 *
 * A notification goes through these states:
 *
 *   send ──room, or exempt──▶ queued ──next()──▶ delivered
 *     └──no room──▶ waiting ──room──▶ queued
 *                     └──abort, close──▶ dropped: send resolves false
 *
 * and either of the two in the middle may be retracted (see internal.ts). There is one list in the order of the
 * calls of send, and delivery follows it. The broker itself is open or closed; once closed, waiting ones are
 * dropped, queued ones are still delivered, and after the last of them the iterator ends.
 *
 * Listeners run in the middle of these operations and may call the broker again. So every method brings the list
 * into order before it emits.
 */
import { StreamClientError } from './error.js'
import { Fifo } from './fifo.js'
import type { JsonObject } from './json-object.js'
import type {
  Notification,
  StreamAdded,
  StreamDisowned,
  StreamExpired,
  StreamTerminated,
} from './notification.js'
import { NotificationQueue, QueueEntry } from './notification-queue.js'
import type { OwnedStream } from './owned-stream.js'
import { type ListenerErrorHandler, SafeEmitter } from './safe-emitter.js'
import { kindOf } from './value-kind.js'

const DEFAULT_CAPACITY = 500

export interface NotificationBrokerOptions {
  /** How many notifications may be queued before `send` waits; a whole number of at least 1. Default 500. */
  readonly capacity?: number | undefined
  /** Hears of listeners that throw. Without it, their errors are dropped. */
  readonly onListenerError?: ListenerErrorHandler | undefined
}

/** What the broker emits: each notification by its type. */
export interface NotificationEvents<Info = JsonObject> {
  StreamAdded: [notification: StreamAdded<Info>]
  StreamExpired: [notification: StreamExpired<Info>]
  StreamDisowned: [notification: StreamDisowned<Info>]
  StreamTerminated: [notification: StreamTerminated]
}

/** A call of `next` that waits for a notification. */
type Read = (result: IteratorResult<Notification<unknown>, undefined>) => void

/** The iteration under way, as long as it is under way: its object is its identity. */
interface Iteration {
  readonly reads: Fifo<Read>
}

/** The entries that wait with one signal, and its one listener: a signal looks through its own at every addition. */
interface SignalWatch {
  readonly entries: Set<QueueEntry>
  readonly onAbort: () => void
}

/** {@link retract} of internal.ts. */
export let retract: (broker: NotificationBroker, stream: OwnedStream) => boolean
/** {@link isUnread} of internal.ts. */
export let isUnread: (broker: NotificationBroker, stream: OwnedStream) => boolean
/** {@link oldestUnreadMs} of internal.ts. */
export let oldestUnreadMs: (broker: NotificationBroker) => number
/** {@link isExpiredUnread} of internal.ts. */
export let isExpiredUnread: (broker: NotificationBroker, notification: StreamExpired) => boolean
/** {@link roomAvailable} of internal.ts. */
export let roomAvailable: (broker: NotificationBroker, signal?: AbortSignal) => Promise<void>

/**
 * Carries notifications from many senders to one reader, who iterates: `for await (const n of broker)`.
 *
 * It is an `eventemitter3` emitter too: each notification is emitted by its type when it is queued, for loggers
 * and metrics beside the one loop. A listener that throws, or returns a promise that rejects, harms nobody: see
 * the option `onListenerError`.
 */
export class NotificationBroker<Info = JsonObject>
  extends SafeEmitter<NotificationEvents<Info>>
  implements AsyncIterable<Notification<Info>>
{
  /** Resolves when `close` is called for the first time, whether anybody reads or not. Never rejects. */
  readonly closed: Promise<void>

  readonly #queue: NotificationQueue
  /** The queued or waiting StreamAdded of each stream. */
  readonly #added = new Map<OwnedStream<unknown>, QueueEntry>()
  /** Every queued or waiting StreamExpired. */
  readonly #expired = new Set<StreamExpired<unknown>>()
  readonly #watches = new Map<AbortSignal, SignalWatch>()
  readonly #roomWaiters = new Set<() => void>()
  readonly #resolveClosed: () => void
  #isClosed = false
  #iteration: Iteration | undefined

  static {
    isExpiredUnread = (broker, notification) => broker.#expired.has(notification)
    retract = (broker, stream) => broker.#retract(stream)
    isUnread = (broker, stream) => broker.#added.has(stream)
    oldestUnreadMs = (broker) => broker.#oldestUnreadMs
    roomAvailable = (broker, signal) => broker.#roomAvailable(signal)
  }

  /** Throws OPTION_INVALID for a capacity that is not a whole number of at least 1. */
  constructor(options: NotificationBrokerOptions = {}) {
    super(options)
    const { capacity = DEFAULT_CAPACITY } = options
    this.#queue = new NotificationQueue(checkCapacity(capacity))
    let resolveClosed = (): void => {}
    this.closed = new Promise((resolve) => {
      resolveClosed = resolve
    })
    this.#resolveClosed = resolveClosed
  }

  /** How many notifications can be sent now without waiting; 0 while senders wait, and once closed. */
  get room(): number {
    return this.#isClosed ? 0 : this.#queue.room
  }

  /**
   * Sends a notification. Delivery follows the order of these calls, whoever waited.
   *
   * Resolves true when the notification is queued: at once if there is room, else when the reader has made some.
   * Resolves false, and the notification is never delivered, if the broker is closed, or `signal` aborts, before
   * that; a later abort changes nothing. A StreamDisowned never waits and takes no room: whoever works on that
   * stream has to hear of it, and there is at most one per owned stream.
   *
   * Rejects with a TypeError, and nothing is sent, if it is no notification at all (an object with a type).
   */
  send(
    notification: Notification<Info>,
    options?: { readonly signal?: AbortSignal | undefined },
  ): Promise<boolean> {
    try {
      checkNotification(notification)
    } catch (error) {
      return Promise.reject(error)
    }
    const signal = options?.signal
    if (this.#isClosed || signal?.aborted === true) return Promise.resolve(false)
    const entry = new QueueEntry(notification, notification.type === 'StreamDisowned')
    if (notification.type === 'StreamAdded') this.#added.set(notification.stream, entry)
    if (notification.type === 'StreamExpired') this.#expired.add(notification)
    this.#queue.add(entry)
    if (entry.state === 'queued') {
      this.#announce(entry)
      return Promise.resolve(true)
    }
    if (signal !== undefined) this.#watch(entry, signal)
    return new Promise((resolve) => {
      entry.settle = resolve
    })
  }

  /**
   * Ends the sending. Whoever waits in `send` gets false; what is queued is still delivered, then `last`, if
   * given, whatever the capacity; then the iterator ends. Returns at once and depends on no reader.
   *
   * The first call counts, later ones do nothing, whatever they bring. Throws a TypeError, and closes nothing, if
   * `last` is no notification at all.
   */
  close(last?: Notification<Info>): void {
    if (last !== undefined) checkNotification(last)
    if (this.#isClosed) return
    this.#isClosed = true
    for (let entry = this.#queue.firstWaiting; entry !== undefined; entry = this.#queue.firstWaiting) {
      this.#drop(entry)
    }
    this.#resolveClosed()
    this.#wakeRoomWaiters()
    if (last === undefined) {
      this.#serveReads()
    } else {
      const entry = new QueueEntry(last, true)
      this.#queue.add(entry)
      this.#announce(entry)
    }
  }

  /**
   * Begins to read. One iteration at a time: throws an Error while another one is under way, that is, has neither
   * come to its end nor been left (`break`, `return`, an error in the loop). Leaving the loop does not close the
   * broker; the next iteration goes on where this one ended.
   *
   * `next` resolves with the next notification, or as done after the last one; it never rejects. Several calls
   * of `next` may be under way and are served in their order. `return` ends the iteration, with all calls of
   * `next` that are under way resolving as done; twice is safe.
   */
  [Symbol.asyncIterator](): AsyncIterator<Notification<Info>, undefined> {
    if (this.#iteration !== undefined) {
      throw new Error('This NotificationBroker is being iterated already: one iteration at a time')
    }
    const iteration: Iteration = { reads: new Fifo() }
    this.#iteration = iteration
    return {
      next: () => this.#next(iteration),
      return: () => {
        if (iteration === this.#iteration) this.#endIteration(iteration)
        return Promise.resolve({ done: true, value: undefined })
      },
    }
  }

  #next(iteration: Iteration): Promise<IteratorResult<Notification<Info>, undefined>> {
    if (iteration !== this.#iteration) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve) => {
      // What is read was sent to this broker, so it is of its type.
      iteration.reads.push(resolve as Read)
      this.#serveReads()
    })
  }

  #endIteration(iteration: Iteration): void {
    this.#iteration = undefined
    for (let read = iteration.reads.shift(); read !== undefined; read = iteration.reads.shift()) {
      read({ done: true, value: undefined })
    }
  }

  /** Tells the listeners that an entry is queued, then hands it over if somebody waits to read it. */
  #announce({ notification }: QueueEntry): void {
    // The type belongs to the notification, which the compiler does not see in a union.
    this.emit(notification.type as never, ...([notification] as never))
    this.#serveReads()
  }

  #serveReads(): void {
    for (;;) {
      const iteration = this.#iteration
      if (iteration === undefined || iteration.reads.length === 0) return
      const entry = this.#queue.head
      if (entry === undefined) {
        if (this.#isClosed) this.#endIteration(iteration)
        return
      }
      iteration.reads.shift()?.({ done: false, value: entry.notification })
      this.#remove(entry)
    }
  }

  get #oldestUnreadMs(): number {
    const oldest = this.#queue.head
    return oldest === undefined ? 0 : performance.now() - oldest.sentAtMs
  }

  #retract(stream: OwnedStream): boolean {
    const entry = this.#added.get(stream)
    if (entry === undefined) return false
    if (entry.state === 'waiting') this.#drop(entry)
    else this.#remove(entry)
    return true
  }

  /** Takes out a queued entry, delivered or retracted, and lets the next waiting one in. */
  #remove(entry: QueueEntry): void {
    this.#forget(entry)
    this.#queue.remove(entry)
    const next = this.#queue.letIn()
    if (next !== undefined) {
      this.#unwatch(next)
      next.settle?.(true)
      this.#announce(next)
    } else if (this.room > 0) {
      this.#wakeRoomWaiters()
    }
  }

  /** Takes out a waiting entry: it will not be delivered. */
  #drop(entry: QueueEntry): void {
    this.#forget(entry)
    this.#unwatch(entry)
    this.#queue.remove(entry)
    entry.settle?.(false)
  }

  #forget(entry: QueueEntry): void {
    const { notification } = entry
    if (notification.type === 'StreamExpired') this.#expired.delete(notification)
    if (notification.type !== 'StreamAdded') return
    if (this.#added.get(notification.stream) === entry) this.#added.delete(notification.stream)
  }

  #watch(entry: QueueEntry, signal: AbortSignal): void {
    entry.signal = signal
    let watch = this.#watches.get(signal)
    if (watch === undefined) {
      const entries = new Set<QueueEntry>()
      const onAbort = (): void => {
        for (const waiting of entries) this.#drop(waiting)
      }
      watch = { entries, onAbort }
      this.#watches.set(signal, watch)
      signal.addEventListener('abort', onAbort)
    }
    watch.entries.add(entry)
  }

  #unwatch(entry: QueueEntry): void {
    const { signal } = entry
    const watch = signal && this.#watches.get(signal)
    if (signal === undefined || watch === undefined) return
    watch.entries.delete(entry)
    if (watch.entries.size > 0) return
    this.#watches.delete(signal)
    signal.removeEventListener('abort', watch.onAbort)
  }

  #roomAvailable(signal: AbortSignal | undefined): Promise<void> {
    if (this.room > 0 || this.#isClosed || signal?.aborted === true) return Promise.resolve()
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#roomWaiters.delete(wake)
        signal?.removeEventListener('abort', wake)
        resolve()
      }
      this.#roomWaiters.add(wake)
      signal?.addEventListener('abort', wake)
    })
  }

  #wakeRoomWaiters(): void {
    for (const wake of this.#roomWaiters) wake()
  }
}

function checkCapacity(capacity: number): number {
  if (Number.isSafeInteger(capacity) && capacity >= 1) return capacity
  const given = typeof capacity === 'number' ? String(capacity) : kindOf(capacity)
  throw new StreamClientError(
    'OPTION_INVALID',
    `capacity must be a whole number of at least 1, not ${given}`,
    {
      option: 'capacity',
      value: given,
    },
  )
}

function checkNotification(notification: unknown): asserts notification is Notification<unknown> {
  if (typeof notification !== 'object' || notification === null) {
    throw new TypeError(`A notification must be an object with a type, not ${kindOf(notification)}`)
  }
  const { type } = notification as { readonly type?: unknown }
  if (typeof type !== 'string' || type === '') {
    throw new TypeError(`A notification must have a type that is a text; this one is ${kindOf(type)}`)
  }
}
