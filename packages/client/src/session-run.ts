/** Everything that happens between the beginning and the end of one session. */
import { setMaxListeners } from 'node:events'
import { StreamClientError } from '@redis-stream-client/notifs'
import { aborted, sleep } from './async/sleep.js'
import type { ClientParts } from './client-parts.js'
import { backoffMs } from './decisions/backoff.js'
import { dampedForMs } from './decisions/member-facts.js'
import { SETTLE_MS } from './decisions/water-level.js'
import type { SafeLogger } from './logger.js'
import { isTransient, messageOf } from './redis/redis-errors.js'
import { PROTOCOL, type SessionBeginning } from './redis/service-scripts.js'
import type { Outage } from './session/outage.js'
import { endLost } from './session/retries.js'
import type { Session } from './session/session.js'
import type { SessionAgents } from './session-agents.js'

/** Names of dead consumers that a session which begins leaves for the probe, and for the background cleanup. */
const NAMES_KEPT = 100
const FIRST_PAUSE_MS = 20
const GREATEST_PAUSE_MS = 500

/**
 * Serves one session: agents work until it ends or `stop` aborts, heartbeats go on until it ends. Resolves when the
 * session has ended, its streams are disowned, and everything that worked for it has settled.
 */
export async function serve(
  session: Session,
  { agents, parts }: { readonly agents: SessionAgents; readonly parts: ClientParts },
  stop: AbortSignal,
  logger: SafeLogger,
): Promise<void> {
  const { ownership, taker } = parts
  const working = new AbortController()
  setMaxListeners(0, working.signal) // every wait of every agent
  const stopAgents = (): void => working.abort()
  stop.addEventListener('abort', stopAgents, { once: true })
  if (stop.aborted) stopAgents()
  const heartbeats = session.keep()
  const work = runAgents(session, { agents, parts }, working.signal, logger)
  await aborted(session.signal) // in the timer phase in which trust is over, whatever is under way
  stopAgents()
  stop.removeEventListener('abort', stopAgents)
  taker.addFormer(session)
  await ownership.disownAll(session)
  await Promise.all([heartbeats, work])
}

async function runAgents(
  session: Session,
  { agents, parts }: { readonly agents: SessionAgents; readonly parts: ClientParts },
  signal: AbortSignal,
  logger: SafeLogger,
): Promise<void> {
  const { failover, probe, progressWatch, reader, rebalancer, reconciler, recovery } = agents
  try {
    const { clients, former, namesInExcess, restarts } = await beginSession(session, parts)
    parts.hints.clients = clients
    // Not all of a fleet that begins: its clients must not all read of each other. One that comes back has left names that
    // go when it has taken its streams back.
    const isNew = former.length === 0
    if (isNew && namesInExcess > NAMES_KEPT && Math.random() < NAMES_KEPT / namesInExcess)
      await parts.deadConsumers.removeExcess(session)
    const dampedMs = dampedForMs(restarts, SETTLE_MS)
    failover.damp(dampedMs)
    const recovered = recovery.run(session, signal, dampedMs > 0 ? [] : former)
    failover.waitFor(recovered)
    const running = [failover, reader, reconciler, probe, progressWatch, rebalancer].map((agent) =>
      agent.run(session, signal),
    )
    await Promise.all([recovered, ...running])
  } catch (error) {
    if (!session.isHeld()) return
    logger.error({ error: messageOf(error) }, 'the session cannot be served')
    session.end('it cannot be served')
  }
}

/**
 * Makes the group and the session's consumer, and enters the session among the others. Resolves with what is known of
 * earlier sessions. Rejects with PROTOCOL_MISMATCH, SESSION_LOST, REDIS_ERROR.
 */
export async function beginSession(
  session: Session,
  { facts, retries, scripts }: Pick<ClientParts, 'facts' | 'retries' | 'scripts'>,
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
 * Gives up when the signal aborts.
 */
export async function endInRedis(
  session: Session,
  { commands, scripts, streamChanges }: Pick<ClientParts, 'commands' | 'scripts' | 'streamChanges'>,
  { isLeaving, signal }: { readonly isLeaving: boolean; readonly signal: AbortSignal },
  logger: SafeLogger,
  outage: Outage | null = null,
): Promise<void> {
  const tell = isLeaving ? { level: streamChanges.levelWithoutUs } : null
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
