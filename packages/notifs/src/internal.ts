/**
 * The door for the packages of this project. It is not for applications: what is here may change at any time.
 */

import type { StreamExpired } from './notification.js'
import type { NotificationBroker } from './notification-broker.js'
import {
  isExpiredUnread as isExpiredUnreadIn,
  isUnread as isUnreadIn,
  oldestUnreadMs as oldestUnreadIn,
  retract as retractFrom,
  roomAvailable as roomIn,
} from './notification-broker.js'
import type { OwnedStream } from './owned-stream.js'

export { Fifo } from './fifo.js'
export { freezeJson } from './freeze-json.js'
export { callGuarded, catchRejection } from './guarded-call.js'
export { errorJson, withJsonForm } from './json-form.js'
export { messageOf } from './message-of.js'
export { type ListenerErrorHandler, SafeEmitter } from './safe-emitter.js'
export { describeIssues, isStandardSchema, STANDARD_SCHEMA_RULE, valueIssues } from './standard-schema.js'

/**
 * Drops the StreamAdded of exactly this stream object if it is queued or waiting, in constant time: a stream that
 * is disowned before anybody heard of it needs no notice of either. The promise of a sender who waits with it
 * resolves false. If it was sent twice, the later one is dropped.
 *
 * True if one was dropped; false if there is none, or it was delivered already.
 */
export function retract(broker: NotificationBroker, stream: OwnedStream): boolean {
  return retractFrom(broker, stream)
}

/** True while the StreamAdded of exactly this stream object is queued or waiting: nobody has read it. */
export function isUnread(broker: NotificationBroker, stream: OwnedStream): boolean {
  return isUnreadIn(broker, stream)
}

/** True while exactly this StreamExpired object is queued or waits. In constant time. */
export function isExpiredUnread(broker: NotificationBroker, notification: StreamExpired): boolean {
  return isExpiredUnreadIn(broker, notification)
}

/** Milliseconds since the oldest notification was sent that nobody has read; 0 if there is none. */
export function oldestUnreadMs(broker: NotificationBroker): number {
  return oldestUnreadIn(broker)
}

/**
 * Waits until the broker has room, for a reader that looks before it fetches. Several may wait: all are woken, and
 * whoever comes later may find the room taken again, so look at `broker.room` afterwards.
 *
 * Resolves when `broker.room` is above 0, also at once; when the broker is closed; when `signal` aborts. Never
 * rejects.
 */
export function roomAvailable(broker: NotificationBroker, signal?: AbortSignal): Promise<void> {
  return roomIn(broker, signal)
}
