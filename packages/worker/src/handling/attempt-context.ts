/**
 * The context of one call of the handler. Everything is made on first use, because most handlers use little of it and
 * there is one for each record. What comes when the attempt is over is refused.
 */
import type { SafeLogger } from '@redis-stream-client/client/internal'
import {
  type Attempt,
  type AttemptOutcome,
  comparePositions,
  type StreamRecord,
} from '@redis-stream-client/handling'
import type { RecordContext, WorkedStream } from '../contract/record-context.js'
import { WorkerError } from '../contract/worker-error.js'
import type { SafeWorkerRecorder } from '../contract/worker-metrics.js'
import type { StreamRun } from '../progress/stream-run.js'
import type { ScriptCommand } from '../redis/worker-scripts.js'
import { collectCommands } from './transaction.js'

/** The same for every attempt of a worker. */
export interface AttemptSurroundings {
  readonly recorder: SafeWorkerRecorder
  readonly logOf: (run: StreamRun, record: StreamRecord) => SafeLogger
}

export class AttemptContext implements RecordContext {
  readonly #run: StreamRun
  readonly #attempt: Attempt<StreamRecord>
  readonly #surroundings: AttemptSurroundings
  /** The last transaction; resolves with its error, or null. */
  #transaction: Promise<unknown> | null = null
  #isTransactionOver = true
  #hasPassed = false
  #log: SafeLogger | undefined

  constructor(run: StreamRun, attempt: Attempt<StreamRecord>, surroundings: AttemptSurroundings) {
    this.#run = run
    this.#attempt = attempt
    this.#surroundings = surroundings
  }

  get records(): readonly StreamRecord[] {
    return this.#attempt.records
  }

  get stream(): WorkedStream {
    return this.#run.stream
  }

  get signal(): AbortSignal {
    return this.#attempt.signal
  }

  get attempt(): number {
    return this.#attempt.number
  }

  get log(): SafeLogger {
    this.#log ??= this.#surroundings.logOf(this.#run, this.#attempt.records[0] as StreamRecord)
    return this.#log
  }

  get done(): () => void {
    return () => {
      refuseLate('done', this.#attempt)
      this.#attempt.isLast = true
      this.#finishIfPassed()
    }
  }

  get through(): RecordContext['through'] {
    return (record) => {
      refuseLate('through', this.#attempt)
      if (!this.records.includes(record)) throw batchInvalid('this is no record of the batch')
      if (!this.#isTransactionOver) throw batchInvalid('a transaction is under way, wait for it')
      const passed = this.#behindPosition(record)
      this.#hasPassed = true
      if (passed > 0) this.#run.pass(record.id, passed, this.#isEnd(record))
    }
  }

  /** True if the handler has said which records are done with, so that the one after them is to blame for a failure. */
  get hasPassed(): boolean {
    return this.#hasPassed
  }

  get transaction(): RecordContext['transaction'] {
    return async (record, queue) => {
      refuseLate('transaction', this.#attempt)
      this.#countPassed(record)
      return await this.#transact(record, collectCommands(queue))
    }
  }

  /** True if the handler has begun a transaction. */
  get hasTransaction(): boolean {
    return this.#transaction !== null
  }

  /** Waits for the last transaction: what it comes to is known before anything else happens to the record. */
  async settle(outcome: AttemptOutcome): Promise<AttemptOutcome> {
    const error = await this.#transaction
    if (error === null || outcome.type !== 'ok') return outcome
    return { type: 'failed', error, isTimeout: false, isAbandoned: false }
  }

  /** How many records a commit up to this one passes: at least one. */
  #countPassed(record: StreamRecord): number {
    if (!this.records.includes(record)) {
      throw new WorkerError('TRANSACTION_INVALID', 'transaction: this is no record of the attempt')
    }
    const passed = this.#behindPosition(record)
    if (passed === 0) {
      throw new WorkerError('TRANSACTION_INVALID', `transaction: record ${record.id} is committed already`)
    }
    return passed
  }

  /** How many records of the attempt up to this one are not done with yet. */
  #behindPosition(record: StreamRecord): number {
    const { position } = this.#run
    return this.records.filter(
      ({ id }) => comparePositions(id, record.id) <= 0 && comparePositions(id, position) > 0,
    ).length
  }

  /** True if the stream ends with this record. */
  #isEnd(record: StreamRecord): boolean {
    return this.#attempt.isLast && record === this.#attempt.records.at(-1)
  }

  /** `done` may come after the transaction of the last record, whose commit did not say that it is the last one. */
  #finishIfPassed(): void {
    const last = this.#attempt.records.at(-1) as StreamRecord
    if (this.#isEnd(last) && comparePositions(last.id, this.#run.position) <= 0) this.#run.markFinished(true)
  }

  async #transact(
    record: StreamRecord,
    commands: readonly ScriptCommand[],
  ): Promise<readonly unknown[] | null> {
    const startedAtMs = performance.now()
    const before = this.#transaction ?? Promise.resolve(null)
    const replies = before.then(() =>
      // An earlier transaction of the attempt has moved the position since the call.
      this.#run.writer.transact(commands, () =>
        this.#run.draftThrough(record.id, this.#countPassed(record), this.#isEnd(record)),
      ),
    )
    this.#isTransactionOver = false
    const over = replies.then(
      () => null,
      (error: unknown) => error,
    )
    this.#transaction = over
    void over.then(() => {
      if (this.#transaction === over) this.#isTransactionOver = true
    })
    const answer = await replies
    this.#finishIfPassed()
    this.#surroundings.recorder.transaction({
      commands: commands.length,
      durationMs: performance.now() - startedAtMs,
    })
    return answer
  }
}

function batchInvalid(problem: string): WorkerError {
  return new WorkerError('BATCH_INVALID', `through: ${problem}`)
}

function refuseLate(operation: string, { isOver, records }: Attempt<StreamRecord>): void {
  if (!isOver) return
  const { dataStreamName } = records[0] as StreamRecord
  throw new WorkerError(
    'ATTEMPT_OVER',
    `${operation}: this attempt is over, what it still does does not count`,
    {
      facts: { dataStreamName },
    },
  )
}
