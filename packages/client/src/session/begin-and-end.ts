/** How a session begins and ends in Redis, where the other clients see it. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { sleep } from '../async/sleep.js'
import { backoffMs } from '../decisions/backoff.js'
import type { MemberFacts } from '../decisions/member-facts.js'
import type { FleetLevel } from '../decisions/water-level.js'
import type { SafeLogger } from '../logger.js'
import type { Connection } from '../redis/connection.js'
import { isTransient, messageOf } from '../redis/redis-errors.js'
import { PROTOCOL, type ServiceScripts, type SessionBeginning } from '../redis/service-scripts.js'
import type { Outage } from './outage.js'
import { endLost, type Retries } from './retries.js'
import type { Session } from './session.js'

const FIRST_PAUSE_MS = 20
const GREATEST_PAUSE_MS = 500

export interface BeginContext {
  readonly facts: () => MemberFacts
  readonly retries: Retries
  readonly scripts: ServiceScripts
}

export interface EndContext {
  readonly commands: Connection
  readonly scripts: ServiceScripts
}

export interface EndRules {
  /** What the others are told, with a level or that of the last round; null if they are not told. */
  readonly tell: { readonly level: FleetLevel | null } | null
  /** Gives up when it aborts. */
  readonly signal: AbortSignal
  /** Hears why it does not work. */
  readonly outage?: Outage
}

/**
 * Makes the group and the session's consumer, and enters the session among the others. Resolves with what is known of
 * earlier sessions. Rejects with PROTOCOL_MISMATCH, SESSION_LOST, REDIS_ERROR.
 */
export async function beginSession(
  session: Session,
  { facts, retries, scripts }: BeginContext,
): Promise<SessionBeginning> {
  const answer = await retries.send('begin the session', session, () =>
    scripts.beginSession(session, facts()),
  )
  if (answer === 'SESSION_LOST') throw endLost('begin the session', session)
  if ('former' in answer) return answer
  const { protocol } = answer
  throw new StreamClientError(
    'PROTOCOL_MISMATCH',
    `clients of protocol ${protocol} use this service, this one speaks ${PROTOCOL}: use one version of ` +
      `redis-stream-client for all, or stop them all and delete the key that ends in -protocol`,
    { protocol, own: PROTOCOL },
  )
}

/**
 * Ends a session in Redis, as the first command that gets through. The others are told only if the client leaves: what
 * a lost session held its next one takes back, and where many are lost at once nobody has time to hear of each.
 */
export async function endInRedis(
  session: Session,
  { commands, scripts }: EndContext,
  { outage, signal, tell }: EndRules,
  logger: SafeLogger,
): Promise<void> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      return await scripts.endSession(session, tell)
    } catch (error) {
      if (!isTransient(error)) {
        logger.warn({ error: messageOf(error) }, 'the session cannot be ended: it ends with its TTL')
        return
      }
      outage?.hear(error, commands)
      await sleep(backoffMs(attempt, FIRST_PAUSE_MS, GREATEST_PAUSE_MS), signal)
    }
  }
}
