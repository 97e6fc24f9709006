/** A logger for tests that look at something else. */
import type { SafeLogger } from '../../src/logger.js'

export const silentLogger: SafeLogger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}
