/** What the handler gets next: one record or a batch, never more than up to the last record of the stream. */
import { type AttemptOutcome, plainAnswer, type StreamRecord } from '@redis-stream-client/handling'

export interface Portion {
  readonly records: readonly StreamRecord[]
  /** The stream ends with the last of them. */
  readonly isLast: boolean
  /** Set if `isLast` has thrown for the only record: it has failed without a call of the handler. */
  readonly refusal: AttemptOutcome | null
}

/** Asks `isLast` about each of these records, of which there is at least one, until it says yes or throws. */
export function choosePortion(
  records: readonly StreamRecord[],
  isLast: ((record: StreamRecord) => unknown) | null,
): Portion {
  if (isLast === null) return { records, isLast: false, refusal: null }
  for (const [index, record] of records.entries()) {
    try {
      if (plainAnswer('isLast', isLast(record)))
        return { records: records.slice(0, index + 1), isLast: true, refusal: null }
    } catch (error) {
      // The records before it come first. When it is its turn it is alone, so that no other record counts a failure.
      if (index > 0) return { records: records.slice(0, index), isLast: false, refusal: null }
      const refusal = { type: 'failed', error, isTimeout: false, isAbandoned: false } as const
      return { records: [record], isLast: false, refusal }
    }
  }
  return { records, isLast: false, refusal: null }
}
