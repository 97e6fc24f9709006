/** Refuses records and Infos that do not fit their schemas. A schema may take its time: the order of the calls is kept. */
import type { JsonObjectWithBigInts } from '@redis-stream-client/client'
import { CallOrder, type InfoSchema } from '@redis-stream-client/client/internal'
import {
  RecordValueError,
  StreamRecord,
  type ValueOutcome,
  type ValueReader,
} from '@redis-stream-client/handling'
import { WorkerError } from '../contract/worker-error.js'
import type { CheckedRecord } from './producer-record.js'

type Refusal = WorkerError | null

export class FittingRecords {
  readonly #values: ValueReader | null
  readonly #infoSchema: InfoSchema | null
  readonly #order = new CallOrder()

  /** Null where there is no schema. */
  constructor(values: ValueReader | null, infoSchema: InfoSchema | null) {
    this.#values = values
    this.#infoSchema = infoSchema
  }

  /**
   * Answers a promise if there is something to wait for: for these records and this Info, or for those of an earlier call.
   * `info` is null if it is not used. Throws, or rejects with, RECORD_INVALID.
   */
  check(
    dataStreamName: string,
    records: readonly CheckedRecord[],
    info: { readonly value: JsonObjectWithBigInts | undefined } | null,
  ): Promise<void> | undefined {
    const refusals = records.map((record, index) =>
      this.#checkRecord(dataStreamName, record, { index, count: records.length }),
    )
    if (info !== null) refusals.push(this.#checkInfo(info.value))
    const inTurn = this.#order.wait(refusals.every(isSettled) ? refusals : settle(refusals))
    if (inTurn instanceof Promise) return inTurn.then(refuseUnfit)
    refuseUnfit(inTurn)
    return undefined
  }

  #checkRecord(
    dataStreamName: string,
    { words }: CheckedRecord,
    place: { readonly index: number; readonly count: number },
  ): Refusal | Promise<Refusal> {
    if (this.#values === null) return null
    const refusal = (outcome: ValueOutcome): Refusal =>
      'error' in outcome ? unfit(outcome.error, place) : null
    const outcome = this.#values.read(new StreamRecord(dataStreamName, ['0-0', words]))
    return outcome instanceof Promise ? outcome.then(refusal) : refusal(outcome)
  }

  #checkInfo(info: JsonObjectWithBigInts | undefined): Refusal | Promise<Refusal> {
    if (this.#infoSchema === null) return null
    const outcome = this.#infoSchema.checkNew(info)
    return outcome instanceof Promise ? outcome.then(unfitInfo) : unfitInfo(outcome)
  }
}

function isSettled(refusal: Refusal | Promise<Refusal>): refusal is Refusal {
  return !(refusal instanceof Promise)
}

/** Never rejects. */
async function settle(refusals: readonly (Refusal | Promise<Refusal>)[]): Promise<readonly Refusal[]> {
  const settled: Refusal[] = []
  for (const refusal of refusals) settled.push(await refusal)
  return settled
}

function refuseUnfit(refusals: readonly Refusal[]): void {
  for (const refusal of refusals) if (refusal !== null) throw refusal
}

function unfitInfo(outcome: Awaited<ReturnType<InfoSchema['check']>>): Refusal {
  return 'problem' in outcome ? new WorkerError('RECORD_INVALID', outcome.problem) : null
}

function unfit(error: unknown, { index, count }: { index: number; count: number }): WorkerError {
  const which = count === 1 ? 'the record' : `record ${index} of ${count}`
  const problem =
    error instanceof RecordValueError ? error.problem : error instanceof Error ? error.message : String(error)
  return new WorkerError('RECORD_INVALID', `${which} ${problem}`, { cause: error, facts: { index } })
}
