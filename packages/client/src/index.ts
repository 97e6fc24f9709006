/** @redis-stream-client/client: each data stream is owned by one client at a time. */
export {
  type DecodeOptions,
  type DisownReason,
  decodeLbsMessage,
  ERROR_CODES,
  type ErrorCode,
  encodeLbsMessage,
  type JsonObject,
  type JsonObjectWithBigInts,
  type JsonValueWithBigInts,
  type LbsInfo,
  type LbsMessage,
  type NewLbsMessage,
  type Notification,
  NotificationBroker,
  type OwnedStream,
  type StandardSchema,
  type StandardSchemaIssue,
  type StandardSchemaResult,
  StreamClientError,
  type TerminationReason,
} from '@redis-stream-client/notifs'
export type { RebalanceEvent } from './agents/rebalancer.js'
export type { ClientHealth, SessionState } from './health.js'
export { LbsProducer } from './lbs-producer.js'
export type { MetricsRecorder, TakeOutcome } from './metrics.js'
export type {
  ClientOptions,
  ProducerOptions,
  RebalanceOptions,
  ReplicaOptions,
  RetryOptions,
} from './options.js'
export type { DeadLetter } from './ownership/dead-letters.js'
export { type ClientEvents, RedisStreamClient } from './redis-stream-client.js'
export {
  type DeadAssignment,
  type DeadLetterListOptions,
  ServiceDeadLetters,
} from './service-dead-letters.js'
