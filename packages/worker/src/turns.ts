/**
 * A stream's turn: records are handed to the handler one after the other, or batch by batch, until the stream has
 * none left, has to wait, or has had its time. Then others go first.
 */
import { StreamClientError } from '@redis-stream-client/client'
import { messageOf, type SafeLogger } from '@redis-stream-client/client/internal'
import { Attempt, type AttemptOutcome } from './attempt.js'
import { AttemptContext, type AttemptSurroundings } from './attempt-context.js'
import type { Breaker } from './breaker.js'
import { RetryAfterError } from './failures.js'
import type { RateLimit } from './rate-limit.js'
import type { RecordFailures } from './record-failures.js'
import { comparePositions } from './stream-position.js'
import type { StreamRecord } from './stream-record.js'
import type { StreamRun } from './stream-run.js'
import { TimeSlice } from './time-slice.js'
import type { WorkerEvents } from './worker-events.js'
import type { HandledOutcome } from './worker-metrics.js'
import type { ResolvedWorkerOptions } from './worker-options.js'

export interface TurnsContext extends AttemptSurroundings {
  readonly options: ResolvedWorkerOptions
  readonly failures: RecordFailures
  readonly breaker: Breaker | null
  readonly rateLimit: RateLimit | null
  readonly logger: SafeLogger
  readonly emit: <Name extends 'abandoned' | 'error'>(
    event: Name,
    payload: Parameters<WorkerEvents[Name]>[0],
  ) => void
  /** The last record of the stream is done with. */
  readonly onLastDone: (run: StreamRun) => void
  /** Redis says that somebody else owns the stream, or nobody. */
  readonly onLost: (run: StreamRun) => void
}

/** How long one stream may go on while others wait. */
const TURN_MS = 10
/** After Redis has refused a commit. */
const COMMIT_PAUSE_MS = 500

export class Turns {
  readonly #context: TurnsContext
  readonly #slice = new TimeSlice()

  constructor(context: TurnsContext) {
    this.#context = context
  }

  /** Works on a stream for a while. Never rejects. */
  async take(run: StreamRun): Promise<void> {
    try {
      await this.#work(run)
    } catch (error) {
      this.#fail(run, error)
    }
    if (run.isLastDone) this.#context.onLastDone(run)
  }

  async #work(run: StreamRun): Promise<void> {
    const { breaker, failures, options, rateLimit } = this.#context
    const { commitEvery } = options
    let nowMs = performance.now()
    const endsAtMs = nowMs + TURN_MS
    while (run.isRunnable) {
      if (run.progress.uncommitted >= commitEvery) await run.commit()
      if (failures.isDoomed(run)) {
        const [record] = run.next(1) as [StreamRecord]
        await failures.bury(run, record, new Error(run.failure?.error))
        continue
      }
      while (this.#slice.isOver(nowMs)) {
        await this.#slice.next()
        nowMs = performance.now()
      }
      if (rateLimit !== null) await rateLimit.enter()
      if (!run.isRunnable) break
      const records = this.#next(run)
      const outcome =
        breaker === null
          ? await this.#attempt(run, records)
          : await breaker.run(() => this.#attempt(run, records))
      if (outcome === null) break
      const concluding = this.#conclude(run, records, outcome)
      if (concluding !== undefined) await concluding
      nowMs = performance.now()
      if (nowMs >= endsAtMs) break
    }
    if (run.progress.uncommitted >= commitEvery) await run.commit()
  }

  /** What the handler gets: one record, or a batch, which ends with the last record of the stream. */
  #next(run: StreamRun): StreamRecord[] {
    const { batchSize, commitEvery, isLast, processBatch } = this.#context.options
    if (processBatch === null) return run.next(1)
    const batch = run.next(Math.min(batchSize, commitEvery - run.progress.uncommitted))
    const last = isLast === null ? -1 : batch.findIndex((record) => isLast(record))
    return last === -1 ? batch : batch.slice(0, last + 1)
  }

  async #attempt(run: StreamRun, records: readonly StreamRecord[]): Promise<AttemptOutcome> {
    const { options, recorder } = this.#context
    const { process, processBatch } = options
    const [first] = records as [StreamRecord]
    const number = run.failure?.id === first.id ? run.failure.attempts + 1 : 1
    const attempt = new Attempt(records, number, options)
    const context = new AttemptContext(run, attempt, this.#context)
    const startedAtMs = performance.now()
    run.attempt = attempt
    let outcome =
      process === null
        ? await attempt.run(processBatch as NonNullable<typeof processBatch>, records, context)
        : await attempt.run(process, first, context)
    run.attempt = null
    if (context.hasTransaction) outcome = await context.settle(outcome)
    recorder.handled({
      records: records.length,
      outcome: outcomeWord(outcome),
      attempt: number,
      durationMs: performance.now() - startedAtMs,
    })
    return outcome
  }

  /** A promise only where there is something to wait for: this happens after each record. */
  #conclude(
    run: StreamRun,
    records: readonly StreamRecord[],
    outcome: AttemptOutcome,
  ): Promise<void> | undefined {
    if (run.state === 'ended') return undefined
    if (outcome.type !== 'ok' && outcome.isAbandoned) this.#reportAbandoned(run, records, outcome)
    const left = after(records, run.position)
    const last = records.at(-1) as StreamRecord
    if (outcome.type === 'failed' && left.length > 0) return this.#onFailed(run, left, outcome.error)
    if (outcome.type === 'interrupted' && left.length > 0) return undefined
    if (left.length > 0) run.pass(last.id, left.length)
    if (outcome.type === 'failed') {
      const facts = { dataStreamName: run.name, record: last.id, error: messageOf(outcome.error) }
      this.#context.logger.warn(facts, 'the handler failed after its transaction: the record is done with')
    }
    if (this.#context.options.isLast?.(last) === true) run.isLastDone = true
    return undefined
  }

  async #onFailed(run: StreamRun, left: readonly StreamRecord[], error: unknown): Promise<void> {
    run.isLastDone = false
    const [first] = left as [StreamRecord]
    if (left.length === 1) return await this.#context.failures.handle(run, first, error)
    const facts = { dataStreamName: run.name, records: left.length, error: messageOf(error) }
    this.#context.logger.warn(facts, 'a batch failed, its records are handled one at a time')
    run.goSinglyThrough((left.at(-1) as StreamRecord).id)
    if (error instanceof RetryAfterError) run.pause(error.delayMs)
  }

  #reportAbandoned(
    run: StreamRun,
    [first]: readonly StreamRecord[],
    outcome: Exclude<AttemptOutcome, { type: 'ok' }>,
  ): void {
    const error = outcome.type === 'failed' ? outcome.error : new Error('the worker is closing')
    const recordId = (first as StreamRecord).id
    this.#context.logger.warn(
      { dataStreamName: run.name, record: recordId, error: messageOf(error) },
      'a handler did not come to an end and is left to itself',
    )
    this.#context.emit('abandoned', { dataStreamName: run.name, recordId, error })
  }

  /** A turn that could not be finished: mostly because the stream is not ours any more. */
  #fail(run: StreamRun, error: unknown): void {
    const { emit, logger, onLost } = this.#context
    if (isLoss(error)) {
      onLost(run)
      return
    }
    emit('error', error instanceof Error ? error : new Error(String(error)))
    logger.error({ dataStreamName: run.name, error: messageOf(error) }, 'a stream cannot go on, trying again')
    run.pause(COMMIT_PAUSE_MS)
  }
}

/** What a transaction has committed is done with, whatever the handler did afterwards: the records behind `position`. */
function after(records: readonly StreamRecord[], position: string): readonly StreamRecord[] {
  const [first] = records as [StreamRecord]
  if (comparePositions(first.id, position) > 0) return records
  return records.filter(({ id }) => comparePositions(id, position) > 0)
}

/** True if a call failed because ownership is over. */
export function isLoss(error: unknown): boolean {
  return (
    error instanceof StreamClientError && (error.code === 'STREAM_NOT_OWNED' || error.code === 'SESSION_LOST')
  )
}

function outcomeWord(outcome: AttemptOutcome): HandledOutcome {
  return outcome.type === 'failed' && outcome.isTimeout ? 'timeout' : outcome.type
}
