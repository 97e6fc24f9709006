/** Everything that happens between the beginning and the end of one session. */
import { setMaxListeners } from 'node:events'
import { sleep } from './async/sleep.js'
import { backoffMs } from './decisions/backoff.js'
import { encodeFailoverMessage } from './decisions/failover-message.js'
import type { SafeLogger } from './logger.js'
import type { Parts } from './parts.js'
import { isTransient, messageOf } from './redis/redis-errors.js'
import type { Outage } from './session/outage.js'
import type { Session } from './session/session.js'

const FIRST_PAUSE_MS = 20
const GREATEST_PAUSE_MS = 500

/**
 * Serves one session: agents work until it ends or `stop` aborts, heartbeats go on until it ends. Resolves when the
 * session has ended, its streams are disowned, and everything that worked for it has settled.
 */
export async function serve(
  session: Session,
  parts: Parts,
  stop: AbortSignal,
  logger: SafeLogger,
): Promise<void> {
  const { ownership, released, taker } = parts
  const agents = new AbortController()
  setMaxListeners(0, agents.signal) // every wait of every agent
  const stopAgents = (): void => agents.abort()
  stop.addEventListener('abort', stopAgents, { once: true })
  if (stop.aborted) stopAgents()
  const heartbeats = session.keep()
  const work = runAgents(session, parts, agents.signal, logger)
  await ended(session)
  stopAgents()
  stop.removeEventListener('abort', stopAgents)
  taker.addFormer(session)
  released.forgetSession(session)
  await ownership.disownAll(session)
  await Promise.all([heartbeats, work])
}

async function runAgents(
  session: Session,
  parts: Parts,
  signal: AbortSignal,
  logger: SafeLogger,
): Promise<void> {
  const { deadConsumers, failover, lbs, look, persistence, probe, progressWatch, reader, recovery } = parts
  try {
    await deadConsumers.removeExcess(session)
    await persistence.send('make the group', session, () => lbs.ensureConsumer(session.consumer))
    await Promise.all(
      [recovery, failover, reader, look, probe, progressWatch].map((agent) => agent.run(session, signal)),
    )
  } catch (error) {
    if (!session.isHeld()) return
    logger.error({ error: messageOf(error) }, 'the session cannot be served')
    session.end('it cannot be served')
  }
}

/** Resolves when the session has ended: in the timer phase in which trust is over, whatever is under way. */
function ended(session: Session): Promise<void> {
  return new Promise((resolve) => {
    if (session.signal.aborted) resolve()
    else session.signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** Tells the others that a session is over, as the first command that gets through. Gives up when the signal aborts. */
export async function announceEnd(
  session: Session,
  parts: Pick<Parts, 'commands' | 'scripts'>,
  signal: AbortSignal,
  logger: SafeLogger,
  outage: Outage | null = null,
): Promise<void> {
  const message = encodeFailoverMessage({ type: 'dead', consumer: session.consumer })
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      return await parts.scripts.endSession(session, message)
    } catch (error) {
      if (!isTransient(error)) {
        logger.warn({ error: messageOf(error) }, 'the session cannot be ended: it ends with its TTL')
        return
      }
      outage?.hear(error, parts.commands)
      await sleep(backoffMs(attempt, FIRST_PAUSE_MS, GREATEST_PAUSE_MS), signal)
    }
  }
}
