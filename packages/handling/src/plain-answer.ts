/** Checks the answer of a function among the options that must not be a promise. */
import { StreamClientError } from '@redis-stream-client/client'
import { catchRejection } from '@redis-stream-client/notifs/internal'

/**
 * True or false, as JavaScript sees it. A promise would be true whatever it resolves with, and would end the process if it
 * were rejected.
 * @throws StreamClientError OPTION_INVALID for a promise.
 */
export function plainAnswer(option: string, answered: unknown): boolean {
  if (!catchRejection(answered, () => undefined)) return Boolean(answered)
  throw new StreamClientError('OPTION_INVALID', `option ${option} must answer true or false, got a promise`, {
    option,
  })
}
