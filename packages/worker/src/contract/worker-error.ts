/** Errors of the worker that the client has no code for. */
import { errorJson } from '@redis-stream-client/notifs/internal'

/** Every code a {@link WorkerError} can carry. Codes are stable: callers branch on them, never on messages. */
export const WORKER_ERROR_CODES = [
  'RECORD_INVALID',
  'RECORD_TIMEOUT',
  'RECORD_CRASHED',
  'ATTEMPT_OVER',
  'BATCH_INVALID',
  'TRANSACTION_INVALID',
  'TRANSACTION_FAILED',
  'CHECKPOINT_FOREIGN',
  'STREAM_UNREADABLE',
  'STREAM_NOT_HALTED',
  'DEAD_LETTER_GONE',
] as const

/** One of {@link WORKER_ERROR_CODES}. */
export type WorkerErrorCode = (typeof WORKER_ERROR_CODES)[number]

export interface WorkerErrorOptions {
  readonly cause?: unknown
  /** What the error is about: names, ids, counts. */
  readonly facts?: Readonly<Record<string, string | number | null>>
}

/** An error of the worker: a stable `code`, a `cause` where there is one, and the facts of the case. */
export class WorkerError extends Error {
  readonly code: WorkerErrorCode
  readonly facts: Readonly<Record<string, string | number | null>>

  constructor(code: WorkerErrorCode, message: string, { cause, facts = {} }: WorkerErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'WorkerError'
    this.code = code
    this.facts = facts
  }

  /** What JSON.stringify shows: name, code, message, facts and cause. */
  toJSON(): object {
    return errorJson(this)
  }
}
