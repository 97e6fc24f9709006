/** The side of a record's context that faces the worker: it refuses what comes when the attempt is over. */
import type { SafeLogger } from '@redis-stream-client/client/internal'
import type { Attempt, AttemptOutcome } from './attempt.js'
import type { ContextSource, WorkedStream } from './record-context.js'
import { comparePositions } from './stream-position.js'
import type { StreamRecord } from './stream-record.js'
import type { StreamRun } from './stream-run.js'
import { collectCommands, type TransactionCommands } from './transaction.js'
import { WorkerError } from './worker-error.js'
import type { SafeWorkerRecorder } from './worker-metrics.js'

export interface AttemptSourceContext {
  readonly recorder: SafeWorkerRecorder
  readonly log: () => SafeLogger
}

export class AttemptSource implements ContextSource {
  readonly #run: StreamRun
  readonly #attempt: Attempt
  readonly #context: AttemptSourceContext
  /** The last transaction; resolves with its error, or null. */
  #transaction: Promise<unknown> | null = null
  #log: SafeLogger | undefined

  constructor(run: StreamRun, attempt: Attempt, context: AttemptSourceContext) {
    this.#run = run
    this.#attempt = attempt
    this.#context = context
  }

  get stream(): WorkedStream {
    return this.#run.stream
  }

  get attempt(): number {
    return this.#attempt.number
  }

  signal(): AbortSignal {
    return this.#attempt.signal
  }

  log(): SafeLogger {
    this.#log ??= this.#context.log()
    return this.#log
  }

  done(): void {
    this.#refuseLate('done')
    this.#run.isLastDone = true
  }

  async transaction(
    record: StreamRecord,
    queue: (multi: TransactionCommands) => unknown,
  ): Promise<readonly unknown[] | null> {
    this.#refuseLate('transaction')
    const { records } = this.#attempt
    if (!records.includes(record)) {
      throw new WorkerError('TRANSACTION_INVALID', 'transaction: this is no record of the attempt')
    }
    const passed = records.filter(({ id }) => comparePositions(id, record.id) <= 0 && this.#isLeft(id))
    if (passed.length === 0) {
      throw new WorkerError('TRANSACTION_INVALID', `transaction: record ${record.id} is committed already`)
    }
    const commands = collectCommands(queue)
    const startedAtMs = performance.now()
    const before = this.#transaction ?? Promise.resolve(null)
    const replies = before.then(() =>
      this.#run.writer.transact(commands, () => this.#run.draftThrough(record.id, passed.length)),
    )
    this.#transaction = replies.then(
      () => null,
      (error: unknown) => error,
    )
    const answer = await replies
    this.#context.recorder.transaction({
      commands: commands.length,
      durationMs: performance.now() - startedAtMs,
    })
    return answer
  }

  /** True if the handler has begun no transaction. */
  get isIdle(): boolean {
    return this.#transaction === null
  }

  /** Waits for the last transaction: what it comes to is known before anything else happens to the record. */
  async settle(outcome: AttemptOutcome): Promise<AttemptOutcome> {
    const error = await this.#transaction
    if (error === null || outcome.type !== 'ok') return outcome
    return { type: 'failed', error, isTimeout: false, isAbandoned: false }
  }

  #isLeft(id: string): boolean {
    return comparePositions(id, this.#run.position) > 0
  }

  #refuseLate(operation: string): void {
    if (!this.#attempt.isOver) return
    throw new WorkerError(
      'ATTEMPT_OVER',
      `${operation}: this attempt is over, what it still does does not count`,
      { facts: { dataStreamName: this.#run.name } },
    )
  }
}
