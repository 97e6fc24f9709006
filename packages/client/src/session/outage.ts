/** Tells the log why something does not work: once for each reason, a few at most, and once when it works again. */
import type { SafeLogger } from '../logger.js'
import type { Connection } from '../redis/connection.js'
import { isReply, isTransient, messageOf } from '../redis/redis-errors.js'

const GREATEST_REASONS = 3
/** Redis adds to an error where in a script it arose, so that one reason would have several texts. */
const PLACE_IN_SCRIPT = / script: [0-9a-f]{40}, on @user_script:\d+\.?$/

/** What the log says. */
export interface OutageWords {
  readonly begins: string
  readonly ends: string
}

const NO_SESSION: OutageWords = {
  begins: 'no session can be begun, trying on',
  ends: 'there is a session again',
}

export class Outage {
  readonly #logger: SafeLogger
  readonly #words: OutageWords
  #beganMs = 0
  readonly #reasons = new Set<string>()

  constructor(logger: SafeLogger, words: OutageWords = NO_SESSION) {
    this.#logger = logger
    this.#words = words
  }

  /** A try has failed. The error of a command that found no connection does not say why; the connection's problem does. */
  hear(error: unknown, { problem }: Pick<Connection, 'problem'>): void {
    const hasAnswer = isReply(error) || !isTransient(error)
    const text = problem?.message ?? (hasAnswer ? messageOf(error) : null)
    if (text === null) return
    const reason = text.replace(PLACE_IN_SCRIPT, '')
    if (this.#reasons.has(reason) || this.#reasons.size === GREATEST_REASONS) return
    if (this.#reasons.size === 0) this.#beganMs = performance.now()
    this.#reasons.add(reason)
    this.#logger.warn({ error: reason }, this.#words.begins)
  }

  /** It works. Safe at any time. */
  end(): void {
    if (this.#reasons.size === 0) return
    this.#reasons.clear()
    const facts = { lastedMs: Math.round(performance.now() - this.#beganMs) }
    this.#logger.info(facts, this.#words.ends)
  }
}
