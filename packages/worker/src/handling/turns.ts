/**
 * A stream's turn: records are handed to the handler one after the other, or batch by batch, until the stream has
 * none left, has to wait, or has had its time. Then others go first.
 */
import { StreamClientError } from '@redis-stream-client/client'
import { messageOf, type SafeLogger, TimeSlice } from '@redis-stream-client/client/internal'
import {
  Attempt,
  type AttemptLimits,
  type AttemptOutcome,
  askedDelayMs,
  type Breaker,
  blameIn,
  callThrough,
  comparePositions,
  describeError,
  type RateLimit,
  type StreamRecord,
} from '@redis-stream-client/handling'
import type { RecordContext, WorkerMiddleware } from '../contract/record-context.js'
import { WorkerError } from '../contract/worker-error.js'
import type { WorkerEvents } from '../contract/worker-events.js'
import type { HandledOutcome } from '../contract/worker-metrics.js'
import type { ResolvedWorkerOptions } from '../contract/worker-options.js'
import type { RecordCrashes } from '../failing/record-crashes.js'
import type { RecordFailures } from '../failing/record-failures.js'
import type { StreamRun } from '../progress/stream-run.js'
import { AttemptContext, type AttemptSurroundings } from './attempt-context.js'
import { choosePortion, type Portion, refuse } from './portion.js'
import { readValues } from './read-values.js'
import type { SlowHandlers } from './slow-handlers.js'

export interface TurnsContext extends AttemptSurroundings {
  readonly options: ResolvedWorkerOptions
  readonly failures: RecordFailures
  readonly crashes: RecordCrashes
  readonly breaker: Breaker | null
  readonly rateLimit: RateLimit | null
  readonly middleware: readonly WorkerMiddleware[]
  readonly slowHandlers: SlowHandlers
  /** True when no record may begin any more. */
  readonly isClosing: () => boolean
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

/** How a call of the handler has failed. */
interface Failed {
  readonly error: unknown
  /** True if it is known that the first record that is left is to blame. */
  readonly isBlamed: boolean
  /** The stream ends with the last record of the call. */
  readonly isLast: boolean
}

/** How long one stream may go on while others wait. */
const TURN_MS = 10
/** After Redis has refused a commit. */
const COMMIT_PAUSE_MS = 500

export class Turns {
  readonly #context: TurnsContext
  readonly #limits: AttemptLimits<StreamRecord>
  readonly #slice = new TimeSlice()

  constructor(context: TurnsContext) {
    this.#context = context
    this.#limits = { ...context.options, timedOut }
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
    const { breaker, crashes, failures, options, rateLimit } = this.#context
    const { commitEvery } = options
    let nowMs = performance.now()
    const endsAtMs = nowMs + TURN_MS
    while (run.isRunnable && !this.#context.isClosing()) {
      // A failure that is not committed yet: Redis has refused it, or would not know of it after a crash.
      const mustCommit = run.failure !== null && run.progress.isDirty
      if (mustCommit || run.progress.uncommitted + this.#nextCount(run) > commitEvery) await run.commit()
      const verdict = failures.isDoomed(run) ? new Error(run.failure?.error) : crashes.verdict(run)
      if (verdict !== null) {
        const [record] = run.next(1) as [StreamRecord]
        await failures.bury(run, record, verdict)
        continue
      }
      while (this.#slice.isOver(nowMs)) {
        await this.#slice.next()
        nowMs = performance.now()
      }
      const permit = rateLimit === null ? null : await rateLimit.enter(run.stream.signal)
      const preparing = run.isRunnable ? crashes.prepare(run) : undefined
      if (preparing !== undefined) await preparing
      const choice = this.#choose(run)
      const portion = choice instanceof Promise ? await choice : choice
      if (portion === null || portion.refusal !== null) permit?.giveBack()
      if (portion === null) break
      const attempt = new Attempt(portion, attemptNumber(run, portion), this.#limits)
      const context = new AttemptContext(run, attempt, this.#context)
      const call = (): Promise<AttemptOutcome> => this.#attempt(run, attempt, context)
      const outcome = portion.refusal ?? (breaker === null ? await call() : await breaker.run(call))
      if (outcome === null) {
        permit?.giveBack()
        break
      }
      const concluding = this.#conclude(run, attempt, outcome, context.hasPassed)
      if (concluding !== undefined) await concluding
      nowMs = performance.now()
      if (nowMs >= endsAtMs) break
    }
    if (run.progress.uncommitted >= commitEvery) await run.commit()
  }

  /** What the handler gets now; null if it may not get anything any more. Answers a promise only if it has to wait. */
  #choose(run: StreamRun): Portion | null | Promise<Portion | null> {
    const { options } = this.#context
    if (!run.isRunnable || this.#context.isClosing()) return null
    const records = this.#next(run)
    const reading = options.values === null || readValues(records, options.timeoutMs, run.stream.signal)
    if (reading === true) return choosePortion(records, options)
    return reading.then((isInTime) => {
      if (!run.isRunnable || this.#context.isClosing()) return null
      if (isInTime) return choosePortion(records, options)
      return refuse(records[0] as StreamRecord, timedOut(records, options.timeoutMs), true)
    })
  }

  /** What the handler may get: one record, or a batch. A commit that is due comes first, so that a batch is not cut for it. */
  #next(run: StreamRun): StreamRecord[] {
    return run.next(this.#nextCount(run), this.#context.options.batchBytes)
  }

  #nextCount(run: StreamRun): number {
    const { batchSize, processBatch } = this.#context.options
    return processBatch === null ? 1 : Math.min(batchSize, run.buffer.length)
  }

  async #attempt(
    run: StreamRun,
    attempt: Attempt<StreamRecord>,
    context: AttemptContext,
  ): Promise<AttemptOutcome> {
    const { recorder, slowHandlers } = this.#context
    const { number, records, startedAtMs } = attempt
    run.attempt = attempt
    let outcome = await attempt.run((subject, given) => this.#call(subject, given), records, context)
    slowHandlers.check(run, performance.now())
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

  #call(records: readonly StreamRecord[], context: RecordContext): unknown {
    const { middleware, options } = this.#context
    const { process, processBatch } = options
    const [first] = records as [StreamRecord]
    return callThrough(middleware, first, context, () =>
      process === null ? processBatch?.(records, context) : process(first, context),
    )
  }

  /** Answers a promise only if there is something to wait for, because it is called after each record. */
  #conclude(
    run: StreamRun,
    attempt: Attempt<StreamRecord>,
    outcome: AttemptOutcome,
    hasPassed: boolean,
  ): Promise<void> | undefined {
    const { isLast, records } = attempt
    if (run.state === 'ended') return undefined
    if (outcome.type !== 'ok' && outcome.isAbandoned) this.#reportAbandoned(run, records, outcome)
    const blame = outcome.type === 'failed' ? blameIn(outcome.error, records.length) : null
    if (blame !== null) passBefore(run, records, blame.index)
    const left = after(records, run.position)
    const last = records.at(-1) as StreamRecord
    if (outcome.type === 'failed' && left.length > 0) {
      const isBlamed = blame === null ? hasPassed : left[0] === records[blame.index]
      return this.#onFailed(run, left, { error: blame?.error ?? outcome.error, isBlamed, isLast })
    }
    if (outcome.type === 'interrupted' && left.length > 0) return undefined
    if (left.length > 0) run.pass(last.id, left.length, isLast)
    if (outcome.type === 'failed') {
      const facts = { dataStreamName: run.name, record: last.id, error: describeError(outcome.error) }
      this.#context.logger.warn(facts, 'the handler failed after its records were done with: they stay so')
    }
    return undefined
  }

  async #onFailed(
    run: StreamRun,
    left: readonly StreamRecord[],
    { error, isBlamed, isLast }: Failed,
  ): Promise<void> {
    const { failures, logger } = this.#context
    const [first] = left as [StreamRecord]
    if (left.length === 1) return await failures.handle(run, first, error, isLast)
    if (isBlamed) return await failures.handle(run, first, error, false)
    const facts = { dataStreamName: run.name, records: left.length, error: describeError(error) }
    logger.warn(facts, 'a batch failed, its records are handled one at a time')
    run.goSinglyThrough((left.at(-1) as StreamRecord).id)
    const delayMs = askedDelayMs(error)
    if (delayMs !== null) await failures.delay(run, first, error, delayMs)
  }

  #reportAbandoned(
    run: StreamRun,
    [first]: readonly StreamRecord[],
    outcome: Exclude<AttemptOutcome, { type: 'ok' }>,
  ): void {
    const error = outcome.type === 'failed' ? outcome.error : new Error('the worker is closing')
    const recordId = (first as StreamRecord).id
    this.#context.logger.warn(
      { dataStreamName: run.name, record: recordId, error: describeError(error) },
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
    emit('error', error instanceof Error ? error : new Error(messageOf(error)))
    logger.error({ dataStreamName: run.name, error: messageOf(error) }, 'a stream cannot go on, trying again')
    run.pause(COMMIT_PAUSE_MS)
  }
}

/** 1 for the first attempt, counted over crashes and owners. */
function attemptNumber(run: StreamRun, { records }: Portion): number {
  const [first] = records as [StreamRecord]
  return run.failure?.id === first.id ? run.failure.attempts + 1 : 1
}

/** What a transaction has committed is done with, whatever the handler did afterwards: the records behind `position`. */
function after(records: readonly StreamRecord[], position: string): readonly StreamRecord[] {
  const [first] = records as [StreamRecord]
  if (comparePositions(first.id, position) > 0) return records
  return records.filter(({ id }) => comparePositions(id, position) > 0)
}

/** The records before `index` are done with: the handler has said so. */
function passBefore(run: StreamRun, records: readonly StreamRecord[], index: number): void {
  const last = records[index - 1]
  if (last === undefined) return
  const passed = after(records.slice(0, index), run.position).length
  if (passed > 0) run.pass(last.id, passed, false)
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

function timedOut(records: readonly StreamRecord[], timeoutMs: number): WorkerError {
  const [first] = records as [StreamRecord]
  return new WorkerError(
    'RECORD_TIMEOUT',
    `record ${first.id} of ${first.dataStreamName} was not handled within ${timeoutMs} ms`,
    { facts: { dataStreamName: first.dataStreamName, recordId: first.id, timeoutMs } },
  )
}
