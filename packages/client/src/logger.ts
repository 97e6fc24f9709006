/** Logging through pino, in a wrapper that a broken logger cannot hurt anybody through. */
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

export function guardLogger(logger: Logger, bindings: Record<string, string>): SafeLogger {
  const child = quietly(() => logger.child(bindings)) ?? logger
  return {
    debug: (facts, message) => quietly(() => child.debug(facts, message)),
    info: (facts, message) => quietly(() => child.info(facts, message)),
    warn: (facts, message) => quietly(() => child.warn(facts, message)),
    error: (facts, message) => quietly(() => child.error(facts, message)),
  }
}

function quietly<T>(act: () => T): T | undefined {
  try {
    return act()
  } catch {
    return undefined // there is nobody left to tell: the logger itself is broken
  }
}
