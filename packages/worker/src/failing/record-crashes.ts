/**
 * Finds the record that makes its owners crash or hang, so that it goes to the dead letters and not the whole assignment.
 *
 * Nothing is written for a record that nobody suspects. After an owner has fallen, each of the records it may have had in hand
 * (those behind the committed position) is marked in the checkpoint before it is handled. If the next owner falls as well, the
 * mark says at which record. Once it was the same record twice, the crashes before, of which that was not known, count as its
 * own: a record that always kills is found after as many crashes as are allowed, if that is at least 3.
 */
import { describeError, type StreamRecord } from '@redis-stream-client/handling'
import { WorkerError } from '../contract/worker-error.js'
import type { StreamRun } from '../progress/stream-run.js'

/** So many crashes at one record are no coincidence. */
const CRASHES_FOR_SURE = 2

export interface RecordCrashesContext {
  readonly maxRecordCrashes: number
  /** Records an owner may have had in hand. */
  readonly commitEvery: number
}

export class RecordCrashes {
  readonly #context: RecordCrashesContext

  constructor(context: RecordCrashesContext) {
    this.#context = context
  }

  /** A stream was taken, and its checkpoint restored. */
  begin(run: StreamRun): void {
    const { commitEvery, maxRecordCrashes } = this.#context
    if (maxRecordCrashes === Infinity || !run.fence.ownerFell || run.isForeign) return
    const { failure, progress } = run
    if (failure?.isTrying !== true) {
      progress.unexplainedCrashes++
      run.suspect(commitEvery)
      return
    }
    const crashes = failure.crashes + 1
    const nowMs = Date.now()
    const error = describeError(crashed(run, failure.id, crashes))
    const firstAtMs = failure.attempts + failure.crashes > 0 ? failure.firstAtMs : nowMs
    run.fail({ ...failure, crashes, firstAtMs, lastAtMs: nowMs, dueAtMs: nowMs, error }, false)
  }

  /** Why the record after the position goes to the dead letters for its crashes; null if it does not. */
  verdict(run: StreamRun): Error | null {
    const { failure } = run
    if (failure === null || failure.id !== run.buffer.first?.id) return null
    const crashes = this.#count(run)
    return crashes >= this.#context.maxRecordCrashes ? crashed(run, failure.id, crashes) : null
  }

  /** The first record is about to be handled. Answers a promise only if something has to be in Redis before. */
  prepare(run: StreamRun): Promise<void> | undefined {
    const { failure, progress } = run
    const [record] = run.next(1) as [StreamRecord]
    if (run.isSuspect(record)) {
      if (failure?.id !== record.id || !failure.isTrying) run.fail(trying(run, record), false)
    } else {
      progress.unexplainedCrashes = 0
    }
    const mark = run.failure?.isTrying === true ? record.id : null
    return progress.tryingInRedis === mark ? undefined : run.commit()
  }

  /** How many crashes the record after the position is held responsible for. */
  #count({ failure, progress }: StreamRun): number {
    const crashes = failure?.crashes ?? 0
    return crashes < CRASHES_FOR_SURE ? crashes : crashes + progress.unexplainedCrashes
  }
}

function trying({ failure }: StreamRun, { id }: StreamRecord): NonNullable<StreamRun['failure']> {
  const nowMs = Date.now()
  const fresh = { id, attempts: 0, crashes: 0, error: '', isLast: false }
  const times = { firstAtMs: nowMs, lastAtMs: nowMs, dueAtMs: nowMs }
  return failure?.id === id ? { ...failure, isTrying: true } : { ...fresh, ...times, isTrying: true }
}

function crashed({ name }: StreamRun, recordId: string, crashes: number): WorkerError {
  return new WorkerError(
    'RECORD_CRASHED',
    `record ${recordId} of ${name} was in hand when its owner crashed or hung, ${crashes} times`,
    { facts: { dataStreamName: name, recordId, crashes } },
  )
}
