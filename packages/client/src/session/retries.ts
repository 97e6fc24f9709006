/** Sending a script of a session again until it is answered or the session is over. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { sleep } from '../async/sleep.js'
import { backoffMs } from '../decisions/backoff.js'
import type { SafeLogger } from '../logger.js'
import type { Lbs } from '../redis/lbs.js'
import { isMissingGroup, isMistake, isTransient, messageOf, redisError } from '../redis/redis-errors.js'
import { KEY_LOST, type Session } from './session.js'

const FIRST_PAUSE_MS = 10
const GREATEST_PAUSE_MS = 500

export class Retries {
  readonly #lbs: Lbs
  readonly #logger: SafeLogger

  constructor(lbs: Lbs, logger: SafeLogger) {
    this.#lbs = lbs
    this.#logger = logger
  }

  /**
   * Sends until there is an answer; a group that has vanished is made again in between. What is sent must be safe
   * to send twice. Rejects with SESSION_LOST when the session ends first, with REDIS_ERROR when Redis refuses, and with
   * an error that a bug of this library causes, unchanged, so that it does not look like an answer of Redis.
   */
  async send<T>(operation: string, session: Session, command: () => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      if (!session.isHeld()) throw sessionLost(operation, session)
      try {
        return await command()
      } catch (error) {
        if (error instanceof StreamClientError || isMistake(error)) throw error
        if (isMissingGroup(error)) {
          await this.send('make the group', session, () => this.#lbs.ensureConsumer(session.consumer))
        } else if (!isTransient(error)) {
          throw redisError(operation, error)
        }
        this.#logger.debug({ operation, attempt, error: messageOf(error) }, 'no answer yet, trying again')
        await sleep(backoffMs(attempt, FIRST_PAUSE_MS, GREATEST_PAUSE_MS), session.signal)
      }
    }
  }
}

/**
 * For a session of which Redis has said that its heartbeat key holds another value or none: ends it, and answers the
 * error to throw.
 */
export function endLost(operation: string, session: Session): StreamClientError {
  session.end(KEY_LOST)
  return sessionLost(operation, session)
}

export function sessionLost(operation: string, session: Session | null): StreamClientError {
  return new StreamClientError('SESSION_LOST', `${operation}: the session is over`, {
    cause: session?.signal.reason,
    operation,
  })
}
