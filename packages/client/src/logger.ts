/** Logging through pino, in a wrapper that keeps the errors of a broken logger from the caller. */
import { callGuarded, catchRejection } from '@redis-stream-client/notifs/internal'
import { type Logger, pino } from 'pino'

export interface SafeLogger {
  debug(facts: object, message: string): void
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}

/** The default logger writes to standard output from level LOG_LEVEL, else warn, on. */
export function defaultLogger(): Logger {
  const level = process.env['LOG_LEVEL']
  const isKnown = level !== undefined && (level === 'silent' || level in pino.levels.values)
  return pino({ name: 'redis-stream-client', level: isKnown ? level : 'warn' })
}

/** Drops what the logger throws or rejects with: there is nowhere left to report it. */
export function guardLogger(logger: Logger, bindings: Record<string, string>): SafeLogger {
  const child = childOf(logger, bindings)
  return {
    debug: (facts, message) => callGuarded(() => child.debug(facts, message), ignore),
    info: (facts, message) => callGuarded(() => child.info(facts, message), ignore),
    warn: (facts, message) => callGuarded(() => child.warn(facts, message), ignore),
    error: (facts, message) => callGuarded(() => child.error(facts, message), ignore),
  }
}

/** The logger itself where it can make no child, or only the promise of one. */
function childOf(logger: Logger, bindings: Record<string, string>): Logger {
  try {
    const child = logger.child(bindings) as unknown
    const isPromise = catchRejection(child, ignore)
    return isPromise ? logger : ((child ?? logger) as Logger)
  } catch {
    return logger
  }
}

function ignore(): void {}
