/**
 * What works for a session beside the others: the reader, reconciliation, recovery, failover, the probe.
 * An agent is built for one session, and does not know the other agents.
 */
import { StreamClientError } from '@redis-stream-client/notifs'
import { sleep } from '../async/sleep.js'
import { backoffMs } from '../decisions/backoff.js'
import type { SafeLogger } from '../logger.js'
import { isTransient, messageOf } from '../redis/redis-errors.js'
import type { Session } from '../session/session.js'

/** What every agent is given. */
export interface AgentContext {
  readonly session: Session
  /** Aborts when the session has ended, or the client closes. */
  readonly signal: AbortSignal
}

export interface Agent {
  /** Called once. Resolves when the signal has aborted and whatever the agent started is settled. */
  run(): Promise<void>
}

const FIRST_PAUSE_MS = 50
const GREATEST_PAUSE_MS = 2000

/**
 * Does one round of work again and again until the signal aborts. A round that fails is logged, and the next one
 * waits longer after each failure in a row: nothing an agent meets may end it.
 */
export async function repeat(
  name: string,
  signal: AbortSignal,
  logger: SafeLogger,
  round: () => Promise<void>,
): Promise<void> {
  for (let failures = 0; !signal.aborted; ) {
    try {
      await round()
      failures = 0
    } catch (error) {
      if (signal.aborted) return
      reportFailure(name, error, logger)
      await sleep(backoffMs(failures++, FIRST_PAUSE_MS, GREATEST_PAUSE_MS), signal)
    }
  }
}

/** A connection that is away heals by itself, as does a session that is over; anything else should be seen. */
export function reportFailure(name: string, error: unknown, logger: SafeLogger): void {
  const facts = { agent: name, error: messageOf(error) }
  const isRefusal = error instanceof StreamClientError && error.code === 'REDIS_ERROR'
  if (isRefusal || !isTransient(error)) logger.warn(facts, `${name} failed, trying again`)
  else logger.debug(facts, `${name} failed, trying again`)
}
