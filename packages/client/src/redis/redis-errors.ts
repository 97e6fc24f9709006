/**
 * Foreign errors, translated: what can be tried again, and what an application is told.
 *
 * Errors are told apart by their name and text and never by their class: the application's ioredis may be another version
 * or another copy than the one this package could import, and then its classes differ too.
 */
import { types } from 'node:util'
import { StreamClientError } from '@redis-stream-client/notifs'
import { messageOf } from '@redis-stream-client/notifs/internal'

/**
 * Answers that say "not now". Inside a script the word stands further back in the message than in a plain reply.
 * https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
 */
const NOT_NOW =
  /\b(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|MISCONF|OOM|NOREPLICAS|MOVED|ASK|UNBLOCKED|NOSCRIPT)\b|max number of clients/
const LOOKED_AT = 400
/** An error reply begins with its kind in capitals. */
const REPLY_CODE = /^[A-Z][A-Z0-9]* /
/** What a mistake in a program throws. */
const MISTAKE = /^(Type|Range|Reference|Syntax|Eval|URI|Assertion)Error$/
/** A command in a line of Lua, and its first argument if that is written out. */
const CALL = /redis\.p?call\(['"](\w+)['"](?:, ['"](\w+)['"])?/g

export { messageOf }

/** A command that got no answer in time. It may still be executed. */
export class DeadlineError extends Error {
  /** `limit` says where the time comes from: an option the application may want to change. */
  constructor(ms: number, limit = '') {
    super(`no answer within ${ms} ms${limit && ` (${limit})`}`)
    this.name = 'DeadlineError'
  }
}

/**
 * True for a lost connection, a deadline that passed and answers that say "not now". False for other answers, and for
 * mistakes of a program.
 */
export function isTransient(error: unknown): boolean {
  return !isMistake(error) && (!isReply(error) || NOT_NOW.test(error.message.slice(0, LOOKED_AT)))
}

/** True for what a mistake in a program throws. It would be made again at every try, and no answer of Redis is to blame. */
export function isMistake(error: unknown): boolean {
  return !isError(error) || MISTAKE.test(error.name)
}

/** True if the server answered with an error (as opposed to not answering), beginning with `code` if one is given. */
export function isReply(error: unknown, code = ''): error is Error {
  return isError(error) && isReplyError(error) && error.message.startsWith(code)
}

/** Under Jest, errors of Node are no `instanceof Error`. */
function isError(error: unknown): error is Error {
  return types.isNativeError(error) || error instanceof Error
}

/** A bundler may have given the class another name. Then it is still a class of its own, without the `code` of Node's. */
function isReplyError(error: Error): boolean {
  if (error.name === 'ReplyError') return true
  const isOfUnknownClass = error.name !== 'Error' && !('code' in error) && !Object.hasOwn(error, 'name')
  return isOfUnknownClass && !isMistake(error) && REPLY_CODE.test(error.message)
}

/** The server does not know the command or does not permit it; what was asked for may be done without. */
export function isRefusal(error: unknown): error is Error {
  return isReply(error) && !isTransient(error) && !/^(NOAUTH|WRONGPASS)/.test(error.message)
}

/** The login lacks a permission; inside a script Redis has other words for it, and from 7.2 on others again. */
export function isForbidden(error: unknown): error is Error {
  const words = /\bNOPERM\b|user executing the script|ACL failure in script/
  return isReply(error) && words.test(error.message.slice(0, LOOKED_AT))
}

/**
 * Redis before 7.2 says of a command refused inside a script only in which line it stands. Adds the command's name, as
 * an ACL rule has it, to the error's message, and answers the error.
 */
export function nameForbidden(error: unknown, lua: string): unknown {
  if (!isForbidden(error) || /'[\w|]+' command/.test(error.message)) return error
  const line = Number(/user_script: ?(\d+)/.exec(error.message)?.[1])
  const calls = [...(lua.split('\n')[line - 1] ?? '').matchAll(CALL)]
  const commands = calls.map(([, command = '', first = '']) => {
    const isContainer = /^(xgroup|xinfo)$/i.test(command)
    return `'${[command, ...(isContainer ? [first] : [])].join('|').toLowerCase()}'`
  })
  if (commands.length > 0) error.message += ` (no permission to run the ${commands.join(' or ')} command)`
  return error
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
