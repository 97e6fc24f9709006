/**
 * How a client leaves, each step within one deadline:
 *
 *   nothing more is taken: the reader's connection is dropped, the agents stop
 *   done:    every owned stream is finished
 *   closed:  signals abort with the reason `closing`; streams whose signal nobody has read are released at once,
 *            the others when their owner has released or finished them, or the deadline is over
 *   aborted: all are released at once
 *   scripts under way are awaited, what they have brought is released, the session ends
 */
import { StreamClientError, type TerminationReason } from '@redis-stream-client/notifs'
import type { SafeLogger } from './logger.js'
import { inSlices, type Ownership } from './ownership.js'
import type { Parts } from './parts.js'
import { messageOf } from './redis/redis-errors.js'
import type { StreamHandle } from './stream-handle.js'

/** Resolves with the number of streams that could be neither finished nor handed over: others will find them. */
export async function giveBackStreams(
  reason: TerminationReason,
  parts: Parts,
  deadline: AbortSignal,
  logger: SafeLogger,
): Promise<number> {
  const { ownership, taker } = parts
  await within(taker.settled(), deadline)
  if (reason === 'done')
    await settle([...ownership.streams.values()], (stream) => stream.done(), deadline, logger)
  if (reason === 'closed') await askOwnersToStop(ownership, deadline, logger)
  await settle([...ownership.streams.values()], (stream) => stream.release(), deadline, logger)
  return ownership.streams.size
}

async function askOwnersToStop(
  ownership: Ownership,
  deadline: AbortSignal,
  logger: SafeLogger,
): Promise<void> {
  const closing = new StreamClientError('CLOSED', 'closing: commit, then release or finish the stream')
  const streams = [...ownership.streams.values()]
  await inSlices(streams, (stream) => stream.askToStop(closing))
  await settle(
    streams.filter((stream) => !stream.hasSignal),
    (stream) => stream.release(),
    deadline,
    logger,
  )
  while (ownership.streams.size > 0 && !deadline.aborted) await ownership.changed(deadline)
}

/** Calls something of every stream and waits for all of it, or for the deadline. */
async function settle(
  streams: readonly StreamHandle[],
  call: (stream: StreamHandle) => Promise<void>,
  deadline: AbortSignal,
  logger: SafeLogger,
): Promise<void> {
  const calls = streams.map((stream) =>
    call(stream).catch((error: unknown) => {
      logger.debug({ dataStreamName: stream.dataStreamName, error: messageOf(error) }, 'not given back')
    }),
  )
  await within(Promise.all(calls), deadline)
}

/** Waits for work, but not beyond the deadline. */
export function within(work: Promise<unknown>, deadline: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (deadline.aborted) return resolve()
    const finish = (): void => {
      deadline.removeEventListener('abort', finish)
      resolve()
    }
    deadline.addEventListener('abort', finish, { once: true })
    work.then(finish, finish)
  })
}
