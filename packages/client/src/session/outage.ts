/** Tells the log why there is no session: once for each reason, a few at most, and once when there is one again. */
import type { SafeLogger } from '../logger.js'
import type { Connection } from '../redis/connection.js'
import { isReply, isTransient, messageOf } from '../redis/redis-errors.js'

const GREATEST_REASONS = 3

export class Outage {
  readonly #logger: SafeLogger
  #beganMs = 0
  readonly #reasons = new Set<string>()

  constructor(logger: SafeLogger) {
    this.#logger = logger
  }

  /** A try has failed. A command that found no connection does not know why, but its connection does. */
  hear(error: unknown, { problem }: Pick<Connection, 'problem'>): void {
    const hasAnswer = isReply(error) || !isTransient(error)
    const reason = problem?.message ?? (hasAnswer ? messageOf(error) : null)
    if (reason === null || this.#reasons.has(reason) || this.#reasons.size === GREATEST_REASONS) return
    if (this.#reasons.size === 0) this.#beganMs = performance.now()
    this.#reasons.add(reason)
    this.#logger.warn({ error: reason }, 'no session can be begun, trying on')
  }

  end(): void {
    if (this.#reasons.size === 0) return
    const facts = { lastedMs: Math.round(performance.now() - this.#beganMs) }
    this.#logger.info(facts, 'there is a session again')
  }
}
