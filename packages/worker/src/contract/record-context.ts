/** What a handler gets beside its record. */
import type { JsonObject } from '@redis-stream-client/client'
import type { SafeLogger } from '@redis-stream-client/client/internal'
import type { Middleware, StreamRecord } from '@redis-stream-client/handling'
import type { ChainableCommander } from 'ioredis'

/** Every command of ioredis that can be executed inside a script; each call is queued and answers the queue. */
export type TransactionCommands = Omit<ChainableCommander, 'exec' | 'length'>

/** The data stream a handler works on. */
export interface WorkedStream<Info = JsonObject> {
  readonly dataStreamName: string
  readonly idInLbs: string
  /** `Info` of the LBS message, `{}` if it had none; with `client: { infoSchema }` what the schema answers for it. */
  readonly additionalInfo: Info
  /** Grows with every change of owner: hand it to what the handler writes to, see the guide. */
  readonly fencingToken: number
  /** Says that the work goes on, with the client option `progressTimeoutMs`: for a handler that takes longer than that. */
  touch(): void
}

/**
 * A function around each call of the handler. `record` is the one that is handled; for a batch the first of
 * `context.records`. See {@link Middleware} for `next`.
 */
export type WorkerMiddleware<Value = unknown, Info = JsonObject> = Middleware<
  StreamRecord<Value>,
  RecordContext<Value, Info>
>

export interface RecordContext<Value = unknown, Info = JsonObject> {
  /** What the handler was called with: one record, or the batch. */
  readonly records: readonly StreamRecord<Value>[]
  readonly stream: WorkedStream<Info>
  /** Aborts when the record has to be given up: its time is over, the worker's drain time is, or ownership. */
  readonly signal: AbortSignal
  /** 1 for the first attempt, counted over crashes and owners. */
  readonly attempt: number
  /** Logs with service, client, stream and record. */
  readonly log: SafeLogger
  /** Says that this is the last record of the stream: when the handler is through, the stream is finished. */
  readonly done: () => void
  /**
   * Says that the records of a batch up to this one are done with. They are committed in time and do not come again, whatever
   * becomes of the rest; if the handler fails afterwards, the record after this one is to blame. Sends nothing.
   *
   * Throws ATTEMPT_OVER, or BATCH_INVALID for a record that is not in the batch and while a transaction is under way.
   */
  readonly through: (record: StreamRecord) => void
  /**
   * Executes commands in the same Redis and the commit of this record (in a batch: of all up to this one) in one
   * atomic, fenced step: exactly once, whatever crashes. The callback queues commands and must not be async.
   *
   * Resolves with the replies, or null where the answer was lost and the commands have been executed.
   * Rejects with ATTEMPT_OVER (this attempt does not count any more), TRANSACTION_INVALID, TRANSACTION_FAILED (Redis
   * refused a command: there is no rollback, see the fact `executed`), STREAM_NOT_OWNED, SESSION_LOST, REDIS_ERROR.
   */
  readonly transaction: (
    record: StreamRecord,
    queue: (multi: TransactionCommands) => unknown,
  ) => Promise<readonly unknown[] | null>
}

/** What `onDeadLetter` gets beside its letter. */
export interface DeadLetterContext {
  /** 1 for the first call, counted over crashes and workers. */
  readonly attempt: number
  /** Aborts when `timeoutMs` is over, or the worker closes. */
  readonly signal: AbortSignal
}
