/** The public door of @redis-stream-client/notifs. */
export {
  ERROR_CODES,
  type ErrorCode,
  type ErrorFact,
  StreamClientError,
  type StreamClientErrorOptions,
} from './error.js'
export type {
  JsonObject,
  JsonObjectWithBigInts,
  JsonValue,
  JsonValueWithBigInts,
} from './json-object.js'
export {
  type DecodeOptions,
  decodeLbsMessage,
  encodeLbsMessage,
  type LbsMessage,
  type NewLbsMessage,
} from './lbs-message.js'
export type {
  DisownReason,
  Notification,
  StreamAdded,
  StreamDisowned,
  StreamExpired,
  StreamTerminated,
  TerminationReason,
} from './notification.js'
export {
  NotificationBroker,
  type NotificationBrokerOptions,
  type NotificationEvents,
} from './notification-broker.js'
export type { LbsInfo, OwnedStream } from './owned-stream.js'
export type { ListenerErrorHandler } from './safe-emitter.js'
export type {
  StandardSchema,
  StandardSchemaIssue,
  StandardSchemaResult,
  ValueIssue,
} from './standard-schema.js'
