/** Refuses records whose value does not fit the schema. A schema may take its time: the order of the calls is kept. */
import {
  RecordValueError,
  StreamRecord,
  type ValueOutcome,
  type ValueReader,
} from '@redis-stream-client/handling'
import { WorkerError } from '../contract/worker-error.js'
import type { CheckedRecord } from './producer-record.js'

export class FittingRecords {
  readonly #values: ValueReader
  /** Settles with the last check under way; null if there is none. */
  #last: Promise<void> | null = null

  constructor(values: ValueReader) {
    this.#values = values
  }

  /**
   * Answers a promise if there is something to wait for: for these records, or for those of an earlier call. Throws, or
   * rejects with, RECORD_INVALID.
   */
  check(dataStreamName: string, records: readonly CheckedRecord[]): Promise<void> | undefined {
    const outcomes = records.map(({ words }) =>
      this.#values.read(new StreamRecord(dataStreamName, ['0-0', words])),
    )
    if (this.#last === null && outcomes.every(isSettled)) {
      refuseUnfit(outcomes)
      return undefined
    }
    const checking = conclude(outcomes, this.#last)
    const last = checking.catch(() => undefined)
    this.#last = last
    void last.then(() => {
      if (this.#last === last) this.#last = null
    })
    return checking
  }
}

async function conclude(
  outcomes: readonly (ValueOutcome | Promise<ValueOutcome>)[],
  before: Promise<void> | null,
): Promise<void> {
  const settled = await Promise.all(outcomes.map(async (outcome) => await outcome))
  await before
  refuseUnfit(settled)
}

function isSettled(outcome: ValueOutcome | Promise<ValueOutcome>): outcome is ValueOutcome {
  return !(outcome instanceof Promise)
}

function refuseUnfit(outcomes: readonly ValueOutcome[]): void {
  for (const [index, outcome] of outcomes.entries()) {
    if ('error' in outcome) throw unfit(outcome.error, index, outcomes.length)
  }
}

function unfit(error: unknown, index: number, count: number): WorkerError {
  const which = count === 1 ? 'the record' : `record ${index} of ${count}`
  const problem =
    error instanceof RecordValueError ? error.problem : error instanceof Error ? error.message : String(error)
  return new WorkerError('RECORD_INVALID', `${which} ${problem}`, { cause: error, facts: { index } })
}
