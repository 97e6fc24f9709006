/**
 * The one ordered list behind the broker, without promises or events.
 *
 * Entries stand in the order they were added. Each is *queued* (accepted, to be delivered) or *waiting* (beyond
 * the capacity). A counted entry is queued while fewer than `capacity` counted ones are, else it waits; an exempt
 * one is queued at once, wherever it stands. Waiting entries become queued in their order, as soon as there is
 * room. So while any wait, the queue is full, and the head of the list is always a queued one.
 *
 * A doubly linked list: every operation takes constant time, also from the middle.
 */
import type { Notification } from './notification.js'

/** A notification with its place in the list. The links belong to the queue. */
export class QueueEntry {
  readonly notification: Notification<unknown>
  /** Does not count towards the capacity. */
  readonly exempt: boolean
  /** Monotonic. */
  readonly sentAtMs: number = performance.now()
  state: 'new' | 'waiting' | 'queued' | 'removed' = 'new'
  previous: QueueEntry | undefined
  next: QueueEntry | undefined
  /** Tells a waiting sender how it ended. */
  settle: ((accepted: boolean) => void) | undefined
  /** Ends the waiting when it aborts. */
  signal: AbortSignal | undefined

  constructor(notification: Notification<unknown>, exempt: boolean) {
    this.notification = notification
    this.exempt = exempt
  }
}

export class NotificationQueue {
  readonly #capacity: number
  #head: QueueEntry | undefined
  #tail: QueueEntry | undefined
  /** Only ever moves towards the tail, so that passing over the exempt ones between costs each entry once. */
  #firstWaiting: QueueEntry | undefined
  /** Counted entries that are queued. */
  #used = 0

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  /** What is to be delivered next. */
  get head(): QueueEntry | undefined {
    return this.#head
  }

  /** The first of those beyond the capacity. */
  get firstWaiting(): QueueEntry | undefined {
    return this.#firstWaiting
  }

  /** Free places. */
  get room(): number {
    return this.#capacity - this.#used
  }

  /** Puts a new entry at the tail, where its state says whether it is queued or waits. */
  add(entry: QueueEntry): void {
    entry.previous = this.#tail
    if (this.#tail === undefined) this.#head = entry
    else this.#tail.next = entry
    this.#tail = entry
    if (entry.exempt || this.room > 0) {
      this.#enter(entry)
    } else {
      entry.state = 'waiting'
      this.#firstWaiting ??= entry
    }
  }

  /** Takes an entry out, delivered or not. What waits is not let in by that: see `letIn`. */
  remove(entry: QueueEntry): void {
    if (entry === this.#firstWaiting) this.#firstWaiting = nextWaiting(entry)
    if (entry.state === 'queued' && !entry.exempt) this.#used -= 1
    entry.state = 'removed'
    if (entry.previous === undefined) this.#head = entry.next
    else entry.previous.next = entry.next
    if (entry.next === undefined) this.#tail = entry.previous
    else entry.next.previous = entry.previous
    entry.previous = undefined
    entry.next = undefined
  }

  /** Queues the first waiting entry if there is room for it, and returns it. */
  letIn(): QueueEntry | undefined {
    const entry = this.#firstWaiting
    if (entry === undefined || this.room === 0) return undefined
    this.#firstWaiting = nextWaiting(entry)
    this.#enter(entry)
    return entry
  }

  #enter(entry: QueueEntry): void {
    entry.state = 'queued'
    if (!entry.exempt) this.#used += 1
  }
}

function nextWaiting(entry: QueueEntry): QueueEntry | undefined {
  let next = entry.next
  while (next !== undefined && next.state !== 'waiting') next = next.next
  return next
}
