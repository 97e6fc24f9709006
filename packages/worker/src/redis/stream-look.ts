/** What a look at a data stream has found, and what follows from it. */
import { positionTimeMs } from '@redis-stream-client/handling'

export interface StreamLook {
  readonly length: number
  /** Null if the stream is empty. */
  readonly firstId: string | null
  readonly lastId: string | null
  /** The greatest id the stream has ever had. */
  readonly greatestId: string
  /** Records that were ever added. Null on a server before 7.0, which does not count them. */
  readonly added: number | null
  /** Records after the position that were counted. */
  readonly counted: number
  /** True if `counted` is all of them. */
  readonly isComplete: boolean
}

export interface RecordCount {
  readonly records: number
  readonly isEstimate: boolean
}

/**
 * How many records lie after a position. Counting means reading, so beyond a bound it is an estimate, for which the records
 * are taken to be spread evenly over the time between the first and the last.
 */
export function countAfter(position: string, look: StreamLook): RecordCount {
  const { counted, firstId, isComplete, lastId, length } = look
  if (isComplete || firstId === null || lastId === null) return { records: counted, isEstimate: false }
  const lastMs = positionTimeMs(lastId)
  const spanMs = lastMs - positionTimeMs(firstId)
  const share = spanMs === 0 ? 1 : (lastMs - positionTimeMs(position)) / spanMs
  const records = Math.min(length, Math.max(counted, Math.round(length * share)))
  return { records, isEstimate: true }
}

/**
 * How many of the records that were ever added do not lie after the position of the look any more. Null if that is not
 * known; then the first record is not after the position, so none after it was trimmed.
 */
export function countGone({ added, counted, isComplete }: StreamLook): number | null {
  return added === null || !isComplete ? null : added - counted
}
