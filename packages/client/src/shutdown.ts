/**
 * How a client leaves, each step within one deadline:
 *
 *   nothing more is taken: the reader's connection is dropped, the agents stop
 *   the level of the other clients without this one is computed once, and published with every stream that is given back
 *   done:    every owned stream the application knows of is finished
 *   closed:  signals abort with the reason `closing`; streams whose signal nobody has read are released at once,
 *            the others when their owner has released or finished them, or the deadline is over
 *   aborted: all are released at once
 *   scripts under way are awaited, what they have brought is released, the session ends
 */
import { StreamClientError, type TerminationReason } from '@redis-stream-client/notifs'
import { Deadline } from './async/deadline.js'
import { inSlices } from './async/in-slices.js'
import type { ClientParts } from './client-parts.js'
import { type Offer, offerOf } from './decisions/offer.js'
import type { SafeLogger } from './logger.js'
import type { Ownership } from './ownership/ownership.js'
import type { StreamHandle } from './ownership/stream-handle.js'
import { messageOf } from './redis/redis-errors.js'
import type { ServiceScripts } from './redis/service-scripts.js'
import type { SessionRun } from './session-run.js'

/** How long `close` waits to read which other clients are alive. */
const LEVEL_MS = 250
/** Among more clients the level of the last round is close enough: when all of them leave, each would read of all others. */
const CLIENTS_READ = 50

export interface Deadlines {
  /** For owners that were asked to stop, and for finishing. */
  readonly owners: Deadline
  /** For releasing the rest. */
  readonly releases: Deadline
}

/** Resolves with the number of streams that could be neither finished nor handed over: others will find them. */
export async function giveBackStreams(
  reason: TerminationReason,
  { session, streams: { streamChanges, taker } }: Pick<SessionRun, 'session' | 'streams'>,
  { ownership, scripts }: Pick<ClientParts, 'ownership' | 'scripts'>,
  { owners, releases }: Deadlines,
  logger: SafeLogger,
): Promise<number> {
  streamChanges.levelWithoutUs = await levelWithout(session.consumer, scripts, logger)
  if (reason === 'closed') await askOwnersToStop(ownership)
  await within(taker.settled(), owners) // what it brings is here now and is given back with the rest
  if (reason === 'done') {
    await settle(ownership, (stream) => (stream.isAnnounced ? stream.done() : null), owners, logger)
  }
  if (reason === 'closed') await awaitOwners(ownership, owners, logger)
  await settle(ownership, (stream) => stream.release(), releases, logger)
  return ownership.streams.size
}

/** With it, what is given back goes to the clients that own least. Null if Redis does not answer in time. */
export async function levelWithout(
  consumer: string,
  scripts: ServiceScripts,
  logger: SafeLogger,
): Promise<Offer | null> {
  const deadline = new Deadline(LEVEL_MS)
  const reading = readLevel(consumer, scripts).catch((error: unknown) => {
    logger.debug({ error: messageOf(error) }, 'the level is not known')
    return null
  })
  const level = await Promise.race([reading, deadline.over])
  deadline.clear()
  return level ?? null
}

async function readLevel(consumer: string, scripts: ServiceScripts): Promise<Offer> {
  const fleet = await scripts.lastLevel()
  if (fleet === null || fleet.living <= CLIENTS_READ) return offerOf(await scripts.roster(), consumer)
  const living = fleet.living - 1
  return { level: (fleet.level * fleet.living) / living, living, firstLevel: null }
}

async function askOwnersToStop(ownership: Ownership): Promise<void> {
  const closing = new StreamClientError('CLOSED', 'closing: commit, then release or finish the stream')
  await inSlices([...ownership.streams.values()], (stream) => stream.askToStop(closing))
}

async function awaitOwners(ownership: Ownership, deadline: Deadline, logger: SafeLogger): Promise<void> {
  await settle(ownership, (stream) => (stream.hasSignal ? null : stream.release()), deadline, logger)
  while (ownership.streams.size > 0 && !deadline.isOver) await ownership.changed(deadline.signal)
}

/** Calls something of every owned stream and waits for all of it, or for the deadline. */
async function settle(
  ownership: Ownership,
  call: (stream: StreamHandle) => Promise<void> | null,
  deadline: Deadline,
  logger: SafeLogger,
): Promise<void> {
  const calls: Promise<void>[] = []
  await inSlices([...ownership.streams.values()], (stream) => {
    const called = call(stream)?.catch((error: unknown) => {
      logger.debug({ dataStreamName: stream.dataStreamName, error: messageOf(error) }, 'not given back')
    })
    if (called !== undefined) calls.push(called)
  })
  await within(Promise.all(calls), deadline)
}

/** Waits for work, but not beyond the deadline. */
async function within(work: Promise<unknown>, deadline: Deadline): Promise<void> {
  await Promise.race([work, deadline.over])
}
