/**
 * The one error class of redis-stream-client, and the list of its codes. It lives in this package because
 * the codec throws it too; the client package hands it on.
 */
import { errorJson } from './json-form.js'

/** Every code a {@link StreamClientError} can carry. Codes are stable: callers branch on them, never on messages. */
export const ERROR_CODES = [
  'OPTION_INVALID',
  'CONSUMER_ID_MISSING',
  'CONSUMER_ID_IN_USE',
  'SERVICE_NAME_INVALID',
  'LBS_MESSAGE_INVALID',
  'ALREADY_CLAIMED',
  'STREAM_GONE',
  'STREAM_NOT_OWNED',
  'CAPACITY_REACHED',
  'SESSION_LOST',
  'CHECKPOINT_INVALID',
  'REDIS_UNSUPPORTED',
  'PROTOCOL_MISMATCH',
  'REPLICAS_BEHIND',
  'DEAD_LETTER_GONE',
  'REBALANCING',
  'CLOSED',
  'REDIS_ERROR',
] as const

/** One of {@link ERROR_CODES}. */
export type ErrorCode = (typeof ERROR_CODES)[number]

/** A plain value that says what an error is about: a name, a count, a duration in milliseconds. */
export type ErrorFact = string | number | boolean | null

/** What a {@link StreamClientError} carries beside its code and message: its cause, and any number of facts. */
export interface StreamClientErrorOptions {
  /** The error that led to this one, of whatever kind it was thrown. */
  readonly cause?: unknown
  /** Facts stand beside `cause`, not in an object of their own. */
  readonly facts?: never
  /** A fact, see {@link ErrorFact}. Anything else than a plain value is left out. */
  readonly [fact: string]: unknown
}

/**
 * An error of this library. `code` says which one it is, `facts` what it is about. Each fact is also a field of
 * the error itself, so that loggers show it; a fact whose name an error already uses (`name`, `message`, `code`,
 * ...) is found under `facts` only.
 */
export class StreamClientError extends Error {
  readonly code: ErrorCode
  readonly facts: Readonly<Record<string, ErrorFact>>

  static {
    // On the prototype, as with the errors of the language: an own field would be printed with every error.
    Object.defineProperty(StreamClientError.prototype, 'name', {
      value: 'StreamClientError',
      writable: true,
      configurable: true,
    })
  }

  constructor(code: ErrorCode, message: string, options: StreamClientErrorOptions = {}) {
    const { cause, ...rest } = options
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    const facts = Object.entries(rest).filter((entry): entry is [string, ErrorFact] => isFact(entry[1]))
    this.facts = Object.freeze(Object.fromEntries(facts))
    for (const [name, value] of facts) {
      if (!(name in this)) Object.defineProperty(this, name, { value, enumerable: true })
    }
  }

  /** What JSON.stringify shows: name, code, message, cause, and the facts in both places. */
  toJSON(): object {
    const json = errorJson(this)
    return { ...json.facts, ...json }
  }
}

function isFact(value: unknown): value is ErrorFact {
  return (
    value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
  )
}
