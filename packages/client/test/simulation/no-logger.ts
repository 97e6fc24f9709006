/** A logger that writes nothing, as applications give one. */
import type { Logger } from 'pino'

export const noLogger = {
  child: () => noLogger,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
} as unknown as Logger
