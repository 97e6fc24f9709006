/** What becomes of a record whose handler failed: another attempt later, or the dead letters. */
import { StreamClientError } from '@redis-stream-client/client'
import { encodeLetterFields, messageOf, type SafeLogger } from '@redis-stream-client/client/internal'
import {
  describeError,
  isExhausted,
  type RetryPolicy,
  readOr,
  retryDelayMs,
  type StreamRecord,
} from '@redis-stream-client/handling'
import { WorkerError } from '../contract/worker-error.js'
import type { WorkerEvents } from '../contract/worker-events.js'
import type { HaltReason, SafeWorkerRecorder } from '../contract/worker-metrics.js'
import type { StreamRun } from '../progress/stream-run.js'
import type { RecordFailure } from '../progress/worker-checkpoint.js'
import type { ScriptCommand } from '../redis/worker-scripts.js'

export interface RecordFailuresContext {
  readonly retry: RetryPolicy
  readonly onExhausted: 'skip' | 'halt'
  readonly deadRecordsKey: string
  readonly clientId: string
  readonly recorder: SafeWorkerRecorder
  readonly logger: SafeLogger
  readonly emit: <Name extends 'retry' | 'deadLetter' | 'error'>(
    event: Name,
    payload: Parameters<WorkerEvents[Name]>[0],
  ) => void
  /** A dead letter is stored. */
  readonly onBuried: () => void
  readonly onHalted: (run: StreamRun, reason: HaltReason, error: unknown) => void
}

/** Before a dead letter that could not be written is tried again. */
const DEAD_LETTER_PAUSE_MS = 1000

export class RecordFailures {
  readonly #context: RecordFailuresContext

  constructor(context: RecordFailuresContext) {
    this.#context = context
  }

  /**
   * The first record of a stream has failed; `isLast`: the stream ends with it. Rejects with what committing the failure
   * rejects with; the stream waits nevertheless.
   */
  async handle(run: StreamRun, record: StreamRecord, error: unknown, isLast: boolean): Promise<void> {
    const { emit, recorder, retry } = this.#context
    const attempts = run.failure?.id === record.id ? run.failure.attempts + 1 : 1
    const isFinal = isExhausted(retry, attempts, error) || hasLeftEffects(error)
    const delayMs = isFinal ? 0 : retryDelayMs(retry, attempts, error)
    run.fail(nextFailure(run.failure, { id: record.id, attempts, delayMs, error, isLast }), isFinal)
    if (isFinal) return await this.bury(run, record, error)
    recorder.retry({ attempt: attempts, delayMs })
    emit('retry', {
      dataStreamName: run.name,
      recordId: record.id,
      attempt: attempts,
      delayMs,
      error,
    })
    await this.#waitUntilDue(run)
  }

  /** A batch asks to be given again later. Nobody knows which of its records is to blame, so no attempt is counted. */
  async delay(run: StreamRun, first: StreamRecord, error: unknown, delayMs: number): Promise<void> {
    const attempts = run.failure?.id === first.id ? run.failure.attempts : 0
    run.fail(nextFailure(run.failure, { id: first.id, attempts, delayMs, error, isLast: false }), false)
    await this.#waitUntilDue(run)
  }

  /** True if the first record has used up its attempts, under this owner or an earlier one. */
  isDoomed(run: StreamRun): boolean {
    const { failure } = run
    if (failure === null || failure.id !== run.buffer.first?.id) return false
    return run.isDoomed || failure.attempts >= this.#context.retry.attempts
  }

  /**
   * Writes the dead letter of the first record, and passes over the record (or halts), in one step, so that neither
   * happens without the other. If Redis refuses, the stream waits and tries again.
   */
  async bury(run: StreamRun, record: StreamRecord, error: unknown): Promise<void> {
    const { emit, logger, onBuried, onExhausted, onHalted, recorder } = this.#context
    const failure = run.failure as RecordFailure
    const isHalting = onExhausted === 'halt'
    try {
      await run.writer.transact([this.#letter(record, failure)], () =>
        isHalting ? run.draftHalt() : run.draftThrough(record.id, 1, failure.isLast),
      )
    } catch (problem) {
      if (problem instanceof StreamClientError && problem.code !== 'REDIS_ERROR') throw problem
      emit('error', problem as Error)
      const facts = { dataStreamName: run.name, record: record.id, error: messageOf(problem) }
      logger.error(facts, 'the dead letter cannot be written, the stream waits')
      return run.pause(DEAD_LETTER_PAUSE_MS)
    }
    const { attempts } = failure
    onBuried()
    recorder.deadLettered({ attempts })
    emit('deadLetter', { dataStreamName: run.name, recordId: record.id, attempts, error })
    if (isHalting) onHalted(run, 'exhausted', error)
  }

  /** The next owner waits for the same moment, so it is committed first. */
  async #waitUntilDue(run: StreamRun): Promise<void> {
    try {
      await run.commit()
    } finally {
      run.pauseUntilDue()
    }
  }

  #letter(record: StreamRecord, failure: RecordFailure): ScriptCommand {
    const { clientId, deadRecordsKey } = this.#context
    const facts: [string, string | Buffer][] = [
      ['stream', record.dataStreamName],
      ['id', record.id],
      ['fields', encodeLetterFields(record.rawBytes)],
      ['error', failure.error],
      ['attempts', String(failure.attempts)],
      ['firstAt', String(failure.firstAtMs)],
      ['lastAt', String(failure.lastAtMs)],
      ['owner', clientId],
    ]
    return { words: ['XADD', deadRecordsKey, '*', ...facts.flat()], keys: [deadRecordsKey] }
  }
}

interface SeenFailure extends Pick<RecordFailure, 'id' | 'attempts' | 'isLast'> {
  readonly delayMs: number
  readonly error: unknown
}

function nextFailure(before: RecordFailure | null, { delayMs, error, ...seen }: SeenFailure): RecordFailure {
  const nowMs = Date.now()
  return {
    ...seen,
    crashes: before?.id === seen.id ? before.crashes : 0,
    isTrying: false,
    firstAtMs: before?.id === seen.id ? before.firstAtMs : nowMs,
    lastAtMs: nowMs,
    dueAtMs: nowMs + Math.ceil(delayMs),
    error: describeError(error),
  }
}

/** A transaction that Redis broke off: the commands before the one it refused would be executed twice. */
function hasLeftEffects(error: unknown): boolean {
  return readOr(
    false,
    () =>
      error instanceof WorkerError &&
      error.code === 'TRANSACTION_FAILED' &&
      Number(error.facts['executed']) > 0,
  )
}
