/** What the handler gets next: one record or a batch, never more than up to the last record of the stream. */
import { type AttemptOutcome, plainAnswer, type StreamRecord } from '@redis-stream-client/handling'

export interface Portion {
  readonly records: readonly StreamRecord[]
  /** The stream ends with the last of them. */
  readonly isLast: boolean
  /** Set if the only record has failed without a call of the handler: it has no value, or `isLast` has thrown for it. */
  readonly refusal: AttemptOutcome | null
}

export interface PortionRules {
  readonly isLast: ((record: StreamRecord) => unknown) | null
  /** Given if the values of the records have been read, so that one without a value is refused. */
  readonly values: object | null
}

/**
 * Looks at each of these records, of which there is at least one, until one has no value, or `isLast` says yes or throws.
 */
export function choosePortion(records: readonly StreamRecord[], { isLast, values }: PortionRules): Portion {
  if (isLast === null && values === null) return { records, isLast: false, refusal: null }
  for (const [index, record] of records.entries()) {
    try {
      const unreadable = values === null ? null : record.takeValueError()
      if (unreadable !== null) throw unreadable.error
      if (isLast !== null && plainAnswer('isLast', isLast(record))) {
        return { records: records.slice(0, index + 1), isLast: true, refusal: null }
      }
    } catch (error) {
      // The records before it come first. When it is its turn it is alone, so that no other record counts a failure.
      if (index > 0) return { records: records.slice(0, index), isLast: false, refusal: null }
      return refuse(record, error)
    }
  }
  return { records, isLast: false, refusal: null }
}

/** A record that fails without a call of the handler. */
export function refuse(record: StreamRecord, error: unknown, isTimeout = false): Portion {
  return {
    records: [record],
    isLast: false,
    refusal: { type: 'failed', error, isTimeout, isAbandoned: false },
  }
}
