/**
 * What the packages of this project share that hand work to a function of the application. It is not for applications:
 * what is here may change at any time.
 */
export type {
  StandardSchema,
  StandardSchemaIssue,
  StandardSchemaResult,
  ValueIssue,
} from '@redis-stream-client/notifs'
export { Attempt, type AttemptLimits, type AttemptOutcome } from './attempt.js'
export { Breaker, type BreakerState, type CircuitBreakerOptions } from './breaker.js'
export { type DeadRecord, DeadRecords, type ListOptions } from './dead-records.js'
export { describeError } from './error-text.js'
export {
  askedDelayMs,
  BatchError,
  blameIn,
  isNonRetryable,
  NonRetryableError,
  RetryAfterError,
  readOr,
  retryAfter,
} from './failures.js'
export { callThrough, type Middleware } from './middleware.js'
export { plainAnswer } from './plain-answer.js'

export type { Rate } from './rate.js'
export { type Permit, RateLimit, type RateLimitOptions } from './rate-limit.js'
export { RecordValueError, resolveValues } from './record-values.js'

export { isExhausted, type RetryOptions, type RetryPolicy, retryDelayMs } from './retry-policy.js'
export { Room } from './room.js'
export { afterPosition, comparePositions, isPosition, positionTimeMs, START } from './stream-position.js'
export {
  type RawRecord,
  RecordFormatError,
  StreamRecord,
  type ValueOutcome,
  type ValueReader,
} from './stream-record.js'
