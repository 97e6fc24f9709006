/** Collects the commands of a transaction: a chainable commander as ioredis has it that executes nothing. */
import { catchRejection } from '@redis-stream-client/notifs/internal'
import { Command, Redis } from 'ioredis'
import type { TransactionCommands } from '../contract/record-context.js'
import { WorkerError } from '../contract/worker-error.js'
import type { ScriptCommand } from '../redis/worker-scripts.js'

const KNOWN: ReadonlySet<string> = new Set(Redis.prototype.getBuiltinCommands())
/** Lua hands over this many arguments at most (LUAI_MAXCSTACK is 8000). */
const GREATEST_COMMAND_WORDS = 7000
const GREATEST_COMMANDS = 1000

/** What Redis does not execute inside a script, or what makes no sense there. */
const NOT_INSIDE = new Set(
  (
    'auth blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin client config debug discard exec ' +
    'hello monitor multi pipeline psubscribe psync punsubscribe quit reset save script select shutdown ssubscribe ' +
    'subscribe sunsubscribe sync unsubscribe unwatch wait waitaof watch'
  ).split(' '),
)

/**
 * Calls `queue` with a commander and answers the commands it was given.
 * @throws WorkerError TRANSACTION_INVALID: a command that cannot be part of a transaction, or too much of it.
 */
export function collectCommands(queue: (multi: TransactionCommands) => unknown): ScriptCommand[] {
  const commands: ScriptCommand[] = []
  const commander: object = new Proxy(Object.create(null), {
    get: (_, name) => {
      if (typeof name !== 'string' || name === 'then') return undefined
      return (...args: unknown[]): unknown => {
        commands.push(toCommand(name, args))
        return commander
      }
    },
  })
  const result = queue(commander as TransactionCommands)
  if (catchRejection(result, () => undefined)) {
    throw invalid('the callback must queue its commands at once and not be async')
  }
  if (commands.length > GREATEST_COMMANDS) {
    throw invalid(`${commands.length} commands are too many, at most ${GREATEST_COMMANDS}`)
  }
  return commands
}

function toCommand(method: string, args: unknown[]): ScriptCommand {
  const isCall = method === 'call'
  const name = (isCall ? String(args[0]) : method).toLowerCase()
  if (!isCall && !KNOWN.has(name)) throw invalid(`${name} is no command ioredis knows`)
  if (NOT_INSIDE.has(name)) throw invalid(`${name} cannot be part of a transaction`)
  if (args.some((arg) => typeof arg === 'function')) throw invalid(`${name}: callbacks are not called here`)
  const command = new Command(name, (isCall ? args.slice(1) : args) as string[])
  const words = [name, ...(command.args as (string | Buffer)[])]
  if (words.length > GREATEST_COMMAND_WORDS) {
    throw invalid(`${name} has ${words.length} words, at most ${GREATEST_COMMAND_WORDS}`)
  }
  return { words, keys: command.getKeys() }
}

function invalid(problem: string): WorkerError {
  return new WorkerError('TRANSACTION_INVALID', `transaction: ${problem}`)
}
