/** Begins sessions: takes the heartbeat key, again and again if need be. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { sleep } from '../async/sleep.js'
import { backoffMs } from '../decisions/backoff.js'
import type { Connection } from '../redis/connection.js'
import { HeartbeatLock } from '../redis/heartbeat-lock.js'
import { isTransient, messageOf, redisError } from '../redis/redis-errors.js'
import type { Outage } from './outage.js'
import { Session, type SessionContext } from './session.js'

/** How much longer than one TTL a predecessor's key may be in the way. */
const GRACE_MS = 1000
/** How long a first session is sought at least while Redis does not answer. */
const LEAST_PATIENCE_MS = 5000
/** How many earlier sessions are remembered. */
const FORMER_TOKENS = 16
const TRIES_PER_TTL = 20
const LEAST_PAUSE_MS = 20
const GREATEST_PAUSE_MS = 2000

export interface SessionSourceContext extends Omit<SessionContext, 'extend' | 'problem' | 'formerTokens'> {
  readonly clientId: string
  readonly heartbeatKey: string
  readonly connection: Connection
}

export class SessionSource {
  readonly #context: SessionSourceContext
  #formerTokens: readonly string[] = []

  constructor(context: SessionSourceContext) {
    this.#context = context
  }

  /**
   * Begins the first session of a client. After a crash under the same id this takes up to one TTL.
   * Rejects with CONSUMER_ID_IN_USE if another process keeps the key for longer than that, with REDIS_ERROR if
   * Redis refuses, or does not answer in time for a while, with the signal's reason when it aborts.
   */
  async begin(signal: AbortSignal): Promise<Session> {
    const { clientId, clock, heartbeatTtlMs } = this.#context
    const greatestLifeMs = heartbeatTtlMs + GRACE_MS
    const untilMs = clock.now().monotonicMs + Math.max(greatestLifeMs, LEAST_PATIENCE_MS)
    /** The last moment at which a predecessor, or a try of ours that was not answered, may have taken the key. */
    let takenMs = clock.now().monotonicMs
    for (;;) {
      signal.throwIfAborted()
      const sentMs = clock.now().monotonicMs
      const { session, problem } = await this.#tryToBegin()
      if (session !== null) return session
      const nowMs = clock.now().monotonicMs
      if (problem !== null) {
        if (nowMs >= untilMs) throw redisError('begin the session', problem)
        takenMs = nowMs
      } else if (sentMs >= takenMs + greatestLifeMs) {
        throw new StreamClientError(
          'CONSUMER_ID_IN_USE',
          `another living process is ${clientId}: each process needs a consumer id of its own (consumerId, POD_NAME)`,
          { client: clientId },
        )
      }
      await sleep(Math.max(heartbeatTtlMs / TRIES_PER_TTL, LEAST_PAUSE_MS), signal)
    }
  }

  /** Begins a later session: tries until it succeeds. Null when the signal aborts first; look at it all the same. */
  async seek(signal: AbortSignal, outage: Outage): Promise<Session | null> {
    const { connection, heartbeatTtlMs, logger } = this.#context
    const greatestPauseMs = Math.min(Math.max(heartbeatTtlMs / 2, LEAST_PAUSE_MS), GREATEST_PAUSE_MS)
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        const session = await this.#tryOnce()
        if (session !== null) return session
        logger.debug({ attempt }, 'the client id is held by another session, waiting')
      } catch (error) {
        logger.debug({ attempt, error: messageOf(error) }, 'no session yet')
        outage.hear(error, connection)
      }
      await sleep(backoffMs(attempt, LEAST_PAUSE_MS, greatestPauseMs), signal)
    }
    return null
  }

  /** A session that is held, or why there is none. Without a session and a problem, another process holds the key. */
  async #tryToBegin(): Promise<{ session: Session | null; problem: unknown }> {
    try {
      const session = await this.#tryOnce()
      if (session === null || session.isHeld()) return { session, problem: null }
      session.end('it has taken too long to begin')
      return { session: null, problem: this.#tooLate(session) }
    } catch (error) {
      if (!isTransient(error)) throw redisError('begin the session', error)
      return { session: null, problem: error }
    }
  }

  async #tryOnce(): Promise<Session | null> {
    const { clientId, clock, connection, heartbeatKey, heartbeatTtlMs } = this.#context
    const lock = new HeartbeatLock(connection.redis, heartbeatKey, heartbeatTtlMs)
    const beganAt = clock.now()
    const token = await connection.run(() => lock.acquire())
    if (token === null) return null
    const formerTokens = this.#formerTokens
    this.#formerTokens = [token, ...formerTokens].slice(0, FORMER_TOKENS)
    return new Session({ clientId, token }, beganAt, {
      ...this.#context,
      formerTokens,
      extend: (deadline) => connection.run(() => lock.extend(), deadline),
      problem: () => connection.problem?.message ?? null,
    })
  }

  #tooLate({ ageMs }: Session): Error {
    const tookMs = Math.round(ageMs)
    const { heartbeatTtlMs } = this.#context
    return new Error(
      `taking the heartbeat key took ${tookMs} ms, which leaves nothing of heartbeatTtlMs (${heartbeatTtlMs}): make it longer`,
    )
  }
}
