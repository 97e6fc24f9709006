/** The options of a worker: what they are, their defaults, and one pure function that checks them. */
import { type ClientOptions, type JsonObject, StreamClientError } from '@redis-stream-client/client'
import { explainIssue, GREATEST_TIMER_MS, invalidOption } from '@redis-stream-client/client/internal'
import {
  type CircuitBreakerOptions,
  type DeadRecord,
  type RateLimitOptions,
  type RetryOptions,
  type RetryPolicy,
  resolveValues,
  type StandardSchema,
  type StreamRecord,
  type ValueReader,
} from '@redis-stream-client/handling'
import type { Logger } from 'pino'
import { z } from 'zod'
import type { DeadLetterContext, RecordContext } from './record-context.js'
import type { WorkerMetricsRecorder } from './worker-metrics.js'

/**
 * All durations are milliseconds. Exactly one of `process` and `processBatch` has to be given. `Value` is the type of
 * `record.value`: of what the schema answers, else of what `decode` does. `Info` is the type of
 * `context.stream.additionalInfo`: of what `client.infoSchema` answers.
 */
export interface WorkerOptions<Decoded = unknown, Value = Decoded, Info = JsonObject> {
  /** Handles one record. When it resolves, the record is done with; what it throws decides what happens next. */
  readonly process?:
    | ((record: StreamRecord<Value>, context: RecordContext<Value, Info>) => unknown)
    | undefined
  /** Handles several records of one stream, in order, all or none of them. */
  readonly processBatch?:
    | ((records: readonly StreamRecord<Value>[], context: RecordContext<Value, Info>) => unknown)
    | undefined
  /**
   * Makes the value of a record from its bytes, for formats other than JSON. Default: `record.json()`. What it throws is not
   * retried, unless it is what `retryAfter` makes.
   */
  readonly decode?: ((record: StreamRecord) => Decoded | PromiseLike<Decoded>) | undefined
  /**
   * Any Standard Schema (zod, valibot, arktype, ...). A record whose value does not fit is not handled and not retried; its
   * dead letter names what does not fit. `record.value` is what the schema answers.
   */
  readonly schema?: StandardSchema<unknown, Value> | undefined
  /** Records a batch has at most. Default 100; never more than may be uncommitted. */
  readonly batchSize?: number | undefined
  /** Bytes a batch has at most, with what its records take beside their fields; one record always goes. Default: no limit. */
  readonly batchBytes?: number | undefined
  /** How long a record waits for others to fill its batch. Default 0: it does not. */
  readonly batchWaitMs?: number | undefined
  /** How many streams are worked on at once. Default 100. */
  readonly concurrency?: number | undefined
  /** How many streams this worker owns at most. Default: no limit. */
  readonly maxOwnedStreams?: number | undefined
  /** Records of a stream that may be done with and not committed: so many come twice after a crash. Default 100. */
  readonly commitEvery?: number | undefined
  /** How long a record may be done with and not committed. Default 1000. */
  readonly commitIntervalMs?: number | undefined
  readonly retry?: RetryOptions | undefined
  /**
   * A record that was in hand when so many of its owners crashed or hung goes to the dead letters. Default: no limit, and
   * nothing is written to find out.
   */
  readonly maxRecordCrashes?: number | undefined
  /** After the last attempt and the dead letter: `skip` (default) goes on with the next record, `halt` stops the stream. */
  readonly onExhausted?: 'skip' | 'halt' | undefined
  /**
   * Called with each dead letter of the service once it is stored, by one of the workers that have this option. If it throws, or
   * the process dies, the letter stays and it is called again, also by another worker: at least once.
   */
  readonly onDeadLetter?: ((letter: DeadRecord, context: DeadLetterContext) => unknown) | undefined
  /** When `onDeadLetter` is called again, and how often it is called at most. Default: without limit, after 1 s to 5 minutes. */
  readonly deadLetterRetry?: Omit<RetryOptions, 'jitter'> | undefined
  /** How long the handler may take. Default: no limit. */
  readonly timeoutMs?: number | undefined
  /** A handler that runs for longer is named in the log on level warn, once for each call. Default 30000. */
  readonly warnAfterMs?: number | undefined
  /** How long a handler that was told to stop may go on before it is left to itself. Default 1000. */
  readonly abandonAfterMs?: number | undefined
  /** How long running handlers may go on when the worker closes. Default 10000. */
  readonly drainMs?: number | undefined
  /**
   * True for the last record of a stream: the stream is finished with it, also if it goes to the dead letters. Asked before
   * the handler is called; what it throws counts as if the handler had thrown it.
   */
  readonly isLast?: ((record: StreamRecord<Value>) => boolean) | undefined
  /** A stream without a record for so long is finished. Default: never. */
  readonly idleMs?: number | undefined
  /** What becomes of the data stream when it is finished. Default `keep`. */
  readonly onDone?: 'keep' | 'delete' | undefined
  /** `committed`: records are removed from the data stream when they are committed. Default `none`. */
  readonly trim?: 'none' | 'committed' | undefined
  /** Records of one stream that are read at once. Default 100, or `batchSize` if that is more. */
  readonly readCount?: number | undefined
  /**
   * While so many records are read and not handled yet, only streams that have none are read, one record each; reads
   * under way may add half. Default 10000.
   */
  readonly maxBufferedRecords?: number | undefined
  /**
   * What records that are read and not handled yet may take in memory, reads under way included. While they take half of it,
   * only streams that have none are read, one record each. A record above 1 MiB may exceed it, once for each connection. Default
   * 64 MiB.
   */
  readonly maxBufferedBytes?: number | undefined
  /** Connections that read data streams, 1 to 3. Default 2. */
  readonly readConnections?: number | undefined
  /** Stops taking records while what the handler needs is down. Off by default. */
  readonly circuitBreaker?: CircuitBreakerOptions | undefined
  /** Off by default. */
  readonly rateLimit?: RateLimitOptions | undefined
  /** How often lag is reported to the metrics. Default 15000. */
  readonly lagIntervalMs?: number | undefined
  /** Options of the client underneath. `claimMode` and `maxOwnedStreams` are the worker's. */
  readonly client?:
    | Omit<ClientOptions<Info>, 'claimMode' | 'maxOwnedStreams' | 'logger' | 'closeTimeoutMs'>
    | undefined
  /** Any pino logger. Default: a new one on level LOG_LEVEL, else warn. */
  readonly logger?: Logger | undefined
  readonly metrics?: WorkerMetricsRecorder | undefined
}

/** The options with every default filled in; Infinity where there is no limit, null where something is off. */
export interface ResolvedWorkerOptions {
  readonly process: ((record: StreamRecord, context: RecordContext) => unknown) | null
  readonly processBatch: ((records: readonly StreamRecord[], context: RecordContext) => unknown) | null
  /** Null if the value of a record is its JSON, read when the handler asks for it. */
  readonly values: ValueReader | null
  readonly batchSize: number
  readonly batchBytes: number
  readonly batchWaitMs: number
  readonly concurrency: number
  readonly maxOwnedStreams: number
  readonly commitEvery: number
  readonly commitIntervalMs: number
  readonly retry: RetryPolicy
  readonly maxRecordCrashes: number
  readonly onExhausted: 'skip' | 'halt'
  readonly onDeadLetter: ((letter: DeadRecord, context: DeadLetterContext) => unknown) | null
  readonly deadLetterRetry: Omit<RetryPolicy, 'jitter'>
  readonly timeoutMs: number
  readonly warnAfterMs: number
  readonly abandonAfterMs: number
  readonly drainMs: number
  readonly isLast: ((record: StreamRecord) => boolean) | null
  readonly idleMs: number
  readonly onDone: 'keep' | 'delete'
  readonly trim: 'none' | 'committed'
  readonly readCount: number
  readonly maxBufferedRecords: number
  readonly maxBufferedBytes: number
  readonly readConnections: number
  readonly circuitBreaker: CircuitBreakerOptions | null
  readonly rateLimit: RateLimitOptions | null
  readonly lagIntervalMs: number
}

const whole = (least: number, greatest: number = Number.MAX_SAFE_INTEGER) =>
  z.custom<number>((value) => isWhole(value, least, greatest), {
    error: `must be a whole number from ${least} to ${greatest}`,
  })
const limit = (least: number) =>
  z.custom<number>(
    (value) => value === Infinity || (Number.isSafeInteger(value) && (value as number) >= least),
    { error: `must be a whole number of at least ${least}, or Infinity` },
  )
const duration = (leastMs: number) => whole(leastMs, GREATEST_TIMER_MS)
const between = (least: number, greatest: number) =>
  z.custom<number>((value) => typeof value === 'number' && value >= least && value <= greatest, {
    error: `must be a number from ${least} to ${greatest}`,
  })
const choice = <const T extends string>(...values: T[]) =>
  z.enum(values, { error: `must be one of ${values.map((value) => `'${value}'`).join(', ')}` })
const callable = z.custom<unknown>((value) => typeof value === 'function', { error: 'must be a function' })
const object = z.custom<object>((value) => typeof value === 'object' && value !== null, {
  error: 'must be an object',
})
const rate = z.strictObject(
  { records: whole(1), perMs: duration(1), burst: whole(1).optional() },
  { error: 'must be an object with records, perMs and burst' },
)

const schema = z.strictObject({
  process: callable.optional(),
  processBatch: callable.optional(),
  decode: z.unknown().optional(),
  schema: z.unknown().optional(),
  batchSize: whole(1, 10_000).optional(),
  batchBytes: whole(1).optional(),
  batchWaitMs: duration(0).optional(),
  concurrency: whole(1, 100_000).optional(),
  maxOwnedStreams: limit(1).optional(),
  commitEvery: whole(1, 1_000_000).optional(),
  commitIntervalMs: duration(1).optional(),
  retry: z
    .strictObject(
      {
        attempts: whole(1).optional(),
        initialDelayMs: duration(0).optional(),
        maxDelayMs: duration(0).optional(),
        factor: between(1, 100).optional(),
        jitter: between(0, 1).optional(),
      },
      { error: 'must be an object with attempts, initialDelayMs, maxDelayMs, factor and jitter' },
    )
    .optional(),
  maxRecordCrashes: limit(1).optional(),
  onExhausted: choice('skip', 'halt').optional(),
  onDeadLetter: callable.optional(),
  deadLetterRetry: z
    .strictObject(
      {
        attempts: limit(1).optional(),
        initialDelayMs: duration(10).optional(),
        maxDelayMs: duration(10).optional(),
        factor: between(1, 100).optional(),
      },
      { error: 'must be an object with attempts, initialDelayMs, maxDelayMs and factor' },
    )
    .optional(),
  timeoutMs: duration(1).optional(),
  warnAfterMs: duration(1).optional(),
  abandonAfterMs: duration(0).optional(),
  drainMs: duration(0).optional(),
  isLast: callable.optional(),
  idleMs: duration(1).optional(),
  onDone: choice('keep', 'delete').optional(),
  trim: choice('none', 'committed').optional(),
  readCount: whole(1, 10_000).optional(),
  maxBufferedRecords: whole(1, 10_000_000).optional(),
  maxBufferedBytes: whole(1).optional(),
  readConnections: whole(1, 3).optional(),
  circuitBreaker: z
    .strictObject(
      {
        failures: whole(1).optional(),
        halfOpenAfterMs: duration(1).optional(),
        isFailure: callable.optional(),
      },
      { error: 'must be an object with failures, halfOpenAfterMs and isFailure' },
    )
    .optional(),
  rateLimit: z
    .strictObject(
      { process: rate.optional(), service: rate.optional() },
      { error: 'must be an object with process or service' },
    )
    .optional(),
  lagIntervalMs: duration(10).optional(),
  client: object.optional(),
  logger: object.optional(),
  metrics: object.optional(),
})

/**
 * Checks the options and fills in the defaults; nothing is corrected in silence.
 * @throws StreamClientError OPTION_INVALID, naming option, value and rule.
 */
export function resolveWorkerOptions<Decoded, Value, Info>(
  options: WorkerOptions<Decoded, Value, Info>,
): ResolvedWorkerOptions {
  const parsed = schema.safeParse(options)
  if (!parsed.success) throw explainIssue(parsed.error.issues[0], options)
  const { process, processBatch, retry = {} } = options
  if ((process === undefined) === (processBatch === undefined)) {
    throw new StreamClientError('OPTION_INVALID', 'exactly one of process and processBatch must be given', {
      option: 'process',
    })
  }
  const initialDelayMs = retry.initialDelayMs ?? 200
  const maxDelayMs = retry.maxDelayMs ?? Math.max(30_000, initialDelayMs)
  if (maxDelayMs < initialDelayMs) {
    throw invalidOption(
      'retry.maxDelayMs',
      maxDelayMs,
      `must be at least retry.initialDelayMs (${initialDelayMs})`,
    )
  }
  if (options.client?.maxCrashes === 0 && (options.maxRecordCrashes ?? Infinity) < Infinity) {
    throw invalidOption(
      'client.maxCrashes',
      0,
      'must be at least 1 with maxRecordCrashes: the first crash would end the assignment',
    )
  }
  const commitEvery = options.commitEvery ?? 100
  const batchSize = Math.min(options.batchSize ?? 100, commitEvery)
  return {
    process: (process as ResolvedWorkerOptions['process'] | undefined) ?? null,
    processBatch: (processBatch as ResolvedWorkerOptions['processBatch'] | undefined) ?? null,
    values: resolveValues(options),
    batchSize,
    batchBytes: options.batchBytes ?? Infinity,
    batchWaitMs: processBatch === undefined ? 0 : (options.batchWaitMs ?? 0),
    concurrency: options.concurrency ?? 100,
    maxOwnedStreams: options.maxOwnedStreams ?? Infinity,
    commitEvery,
    commitIntervalMs: options.commitIntervalMs ?? 1000,
    retry: {
      attempts: retry.attempts ?? 16,
      initialDelayMs,
      maxDelayMs,
      factor: retry.factor ?? 2,
      jitter: retry.jitter ?? 0.5,
    },
    maxRecordCrashes: options.maxRecordCrashes ?? Infinity,
    onExhausted: options.onExhausted ?? 'skip',
    onDeadLetter: options.onDeadLetter ?? null,
    deadLetterRetry: {
      attempts: options.deadLetterRetry?.attempts ?? Infinity,
      initialDelayMs: options.deadLetterRetry?.initialDelayMs ?? 1000,
      maxDelayMs: options.deadLetterRetry?.maxDelayMs ?? 300_000,
      factor: options.deadLetterRetry?.factor ?? 2,
    },
    timeoutMs: options.timeoutMs ?? Infinity,
    warnAfterMs: options.warnAfterMs ?? 30_000,
    abandonAfterMs: options.abandonAfterMs ?? 1000,
    drainMs: options.drainMs ?? 10_000,
    isLast: (options.isLast as ResolvedWorkerOptions['isLast'] | undefined) ?? null,
    idleMs: options.idleMs ?? Infinity,
    onDone: options.onDone ?? 'keep',
    trim: options.trim ?? 'none',
    readCount: options.readCount ?? Math.max(100, processBatch === undefined ? 0 : batchSize),
    maxBufferedRecords: options.maxBufferedRecords ?? 10_000,
    maxBufferedBytes: options.maxBufferedBytes ?? 64 * 1024 * 1024,
    readConnections: options.readConnections ?? 2,
    circuitBreaker: options.circuitBreaker ?? null,
    rateLimit: options.rateLimit ?? null,
    lagIntervalMs: options.lagIntervalMs ?? 15_000,
  }
}

function isWhole(value: unknown, least: number, greatest: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= greatest
}
