/** Errors of this package: of the tests' surroundings, not of what they test. */
import { errorJson } from '@redis-stream-client/notifs/internal'

/** Every code a {@link TestingError} can carry. Codes are stable: callers branch on them, never on messages. */
export const TESTING_ERROR_CODES = ['OPTION_INVALID', 'REDIS_NOT_FOUND', 'REDIS_NOT_STARTED'] as const

/** One of {@link TESTING_ERROR_CODES}. */
export type TestingErrorCode = (typeof TESTING_ERROR_CODES)[number]

/** An error of this package. `code` says which one it is, the message what can be done. */
export class TestingError extends Error {
  readonly code: TestingErrorCode

  constructor(code: TestingErrorCode, message: string, options: { readonly cause?: unknown } = {}) {
    super(message, options)
    this.name = 'TestingError'
    this.code = code
  }

  /** What JSON.stringify shows: name, code, message and cause. */
  toJSON(): object {
    return errorJson(this)
  }
}
