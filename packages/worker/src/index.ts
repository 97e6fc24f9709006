/** @redis-stream-client/worker: the records of a service's data streams, in order, at least once. */
export type { JsonObject } from '@redis-stream-client/client'
export { DeadLetters, type DeadRecord, type ListOptions } from './dead-letters.js'
export { NonRetryableError, RetryAfterError, retryAfter } from './failures.js'
export type { AddedRecord } from './outbox.js'
export type { ProducerOptions } from './producer-options.js'
export type { NewRecord, RecordFields } from './producer-record.js'
export type { RecordContext, WorkedStream } from './record-context.js'
export { type AddOptions, RecordProducer } from './record-producer.js'
export { RecordFormatError, type StreamRecord } from './stream-record.js'
export { StreamWorker } from './stream-worker.js'
export type { TransactionCommands } from './transaction.js'
export type { RecordFailure } from './worker-checkpoint.js'
export { WORKER_ERROR_CODES, WorkerError, type WorkerErrorCode } from './worker-error.js'
export type { WorkerEvents } from './worker-events.js'
export type {
  BreakerState,
  HaltReason,
  HandledOutcome,
  StreamEnd,
  WorkerMetricsRecorder,
} from './worker-metrics.js'
export type {
  CircuitBreakerOptions,
  Rate,
  RateLimitOptions,
  RetryOptions,
  WorkerOptions,
} from './worker-options.js'
export type {
  LagStatus,
  StreamStatus,
  WorkerConnectionProblem,
  WorkerHealth,
  WorkerStatus,
} from './worker-status.js'
