/** Foreign errors, translated: what can be tried again, and what an application is told. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { ReplyError as UntypedReplyError } from 'ioredis'

/**
 * Answers that say "not now". Inside a script the word stands further back in the message than in a plain reply.
 * https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
 */
const NOT_NOW =
  /\b(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|MISCONF|OOM|NOREPLICAS|MOVED|ASK|UNBLOCKED|NOSCRIPT)\b/
const LOOKED_AT = 400
const ReplyError = UntypedReplyError as new (...args: unknown[]) => Error

/** A command that got no answer in time. It may still be executed. */
export class DeadlineError extends Error {
  constructor(ms: number) {
    super(`no answer within ${ms} ms`)
    this.name = 'DeadlineError'
  }
}

/** True for a lost connection, a deadline that passed and answers that say "not now". */
export function isTransient(error: unknown): boolean {
  return !isReply(error) || NOT_NOW.test(error.message.slice(0, LOOKED_AT))
}

/** True if the server answered with an error (as opposed to not answering), beginning with `code` if one is given. */
export function isReply(error: unknown, code = ''): error is Error {
  return error instanceof ReplyError && (error as Error).message.startsWith(code)
}

/** The login lacks a permission; inside a script Redis has other words for it. */
export function isForbidden(error: unknown): boolean {
  return isReply(error) && /\bNOPERM\b|user executing the script/.test(error.message.slice(0, LOOKED_AT))
}

/** The stream or its group does not exist (any more). */
export function isMissingGroup(error: unknown): boolean {
  return isReply(error) && error.message.includes('NOGROUP')
}

/** What an application gets when Redis could not be made to do something. */
export function redisError(operation: string, cause: unknown): StreamClientError {
  const problem = messageOf(cause)
  return new StreamClientError('REDIS_ERROR', `${operation}: ${problem}`, { cause: scrub(cause), operation })
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/**
 * ioredis keeps the command with its arguments on the error, which for AUTH and HELLO are the password; on Cluster
 * also on an error inside the error.
 */
export function scrub(error: unknown): unknown {
  scrubAll(error, new Set())
  return error
}

function scrubAll(error: unknown, seen: Set<unknown>): void {
  if (!(error instanceof Error) || seen.has(error)) return
  seen.add(error)
  if ('command' in error) delete error.command
  scrubAll(error.cause, seen)
  for (const inner of Object.values(error)) scrubAll(inner, seen)
}
