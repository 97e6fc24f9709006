/**
 * What a process that has lost a data stream might still do, not knowing: commit, finish, write its result.
 * It is told, and a real consumer would just stop. Here it tries all three, so that the demo can show the answers.
 */
import { StreamClientError } from '@redis-stream-client/client'
import type { AirportResults } from './airport-results.js'
import type { AirportWork } from './airport-work.js'
import { type FormerOwnersCall, report } from './reports.js'

export async function tryAsFormerOwner(work: AirportWork, results: AirportResults): Promise<void> {
  const { airport, delays, stream } = work
  await attempt('commit', () => work.commit())
  await attempt('done', () => stream.done())
  await attempt('result', () => results.write(airport, stream.fencingToken, { delays, isFinal: true }))
}

/** True if an error says that the stream is not ours, rather than that something went wrong. */
export function isRefusal(error: unknown): error is StreamClientError {
  return error instanceof StreamClientError && ['STREAM_NOT_OWNED', 'SESSION_LOST'].includes(error.code)
}

async function attempt(call: FormerOwnersCall, act: () => Promise<unknown>): Promise<void> {
  try {
    report({ type: 'tried', call, answer: (await act()) === false ? 'smaller token' : 'accepted' })
  } catch (error) {
    if (!isRefusal(error)) throw error
    report({ type: 'tried', call, answer: error.code })
  }
}
