/** @redis-stream-client/worker: the records of a service's data streams, in order, at least once. */
export type { JsonObject } from '@redis-stream-client/client'
export {
  BatchError,
  type BreakerState,
  type CircuitBreakerOptions,
  type DeadRecord,
  type ListOptions,
  NonRetryableError,
  type Rate,
  type RateLimitOptions,
  RecordFormatError,
  RecordValueError,
  RetryAfterError,
  type RetryOptions,
  retryAfter,
  type StandardSchema,
  type StandardSchemaIssue,
  type StandardSchemaResult,
  type StreamRecord,
  type ValueIssue,
} from '@redis-stream-client/handling'
export type {
  DeadLetterContext,
  RecordContext,
  TransactionCommands,
  WorkedStream,
  WorkerMiddleware,
} from './contract/record-context.js'
export { WORKER_ERROR_CODES, WorkerError, type WorkerErrorCode } from './contract/worker-error.js'
export type { WorkerEvents } from './contract/worker-events.js'
export type {
  HaltReason,
  HandledOutcome,
  StreamEnd,
  WorkerMetricsRecorder,
} from './contract/worker-metrics.js'
export type { WorkerOptions } from './contract/worker-options.js'
export type { ReplayManyOptions, ReplayProgress } from './failing/bulk-replay.js'
export { DeadLetters } from './failing/dead-letters.js'
export type { AddedRecord } from './producing/outbox.js'
export type { ProducerOptions } from './producing/producer-options.js'
export type { NewRecord, RecordFields } from './producing/producer-record.js'
export { type AddOptions, RecordProducer } from './producing/record-producer.js'
export type { RecordFailure } from './progress/worker-checkpoint.js'
export { StreamWorker } from './stream-worker.js'
export type {
  LagStatus,
  StreamStatus,
  WorkerConnectionProblem,
  WorkerHealth,
  WorkerStatus,
} from './watching/worker-status.js'
