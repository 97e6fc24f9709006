/** The streams a worker works on: how they come in, and what happens on time rather than on a record. */
import { type OwnedStream, StreamClientError } from '@redis-stream-client/client'
import { backoffMs, fenceOf, isReply, type SafeLogger, sleep } from '@redis-stream-client/client/internal'
import { describeError } from '@redis-stream-client/handling'
import { WorkerError } from './contract/worker-error.js'
import type { WorkerEvents } from './contract/worker-events.js'
import type { HaltReason, SafeWorkerRecorder, StreamEnd } from './contract/worker-metrics.js'
import type { StreamEndings } from './ending/stream-endings.js'
import type { RecordCrashes } from './failing/record-crashes.js'
import type { Pauses } from './handling/pauses.js'
import type { SlowHandlers } from './handling/slow-handlers.js'
import { isLoss } from './handling/turns.js'
import { CheckpointWriter } from './progress/checkpoint-writer.js'
import { type RunContext, StreamRun } from './progress/stream-run.js'
import { decodeCheckpoint } from './progress/worker-checkpoint.js'
import type { ReadTarget } from './reading/named-streams.js'
import type { StreamReader } from './reading/stream-reader.js'
import type { ScriptCommand, WorkerScripts } from './redis/worker-scripts.js'

export interface OwnedRunsContext {
  readonly run: Omit<RunContext, 'onHungry'>
  readonly scripts: WorkerScripts
  readonly readers: readonly StreamReader[]
  readonly endings: StreamEndings
  readonly pauses: Pauses
  readonly crashes: RecordCrashes
  readonly commitIntervalMs: number
  readonly idleMs: number
  /** Looks at a stream before it is read. Never rejects. */
  readonly lookFirst: (run: StreamRun) => Promise<unknown>
  readonly slowHandlers: SlowHandlers
  readonly recorder: SafeWorkerRecorder
  readonly logger: SafeLogger
  readonly emit: <Name extends keyof WorkerEvents>(
    event: Name,
    payload: Parameters<WorkerEvents[Name]>[0],
  ) => void
}

const LEAST_TICK_MS = 5
const GREATEST_TICK_MS = 250
/** After Redis has refused a commit. */
const COMMIT_RETRY_MS = 500
/** After Redis has refused to read a stream. */
const FIRST_REFUSAL_MS = 1000
const GREATEST_REFUSAL_MS = 10_000

export class OwnedRuns {
  readonly #context: OwnedRunsContext
  readonly #runs = new Map<string, StreamRun>()
  /** Runs that have ended while their handler was busy, by stream. */
  readonly #leaving = new Map<string, StreamRun>()
  readonly #readerOf = new Map<StreamRun, StreamReader>()
  /** Everything started here and not settled. */
  readonly #underWay = new Set<Promise<unknown>>()

  constructor(context: OwnedRunsContext) {
    this.#context = context
  }

  get all(): ReadonlyMap<string, StreamRun> {
    return this.#runs
  }

  /** Works on a stream from now on; once an earlier ownership of it has come to its end in this process. */
  add(stream: OwnedStream): void {
    if (!stream.owned) return
    const earlier = this.#runs.get(stream.dataStreamName)
    if (earlier !== undefined) this.#lose(earlier)
    const leaving = this.#leaving.get(stream.dataStreamName)
    if (leaving === undefined) this.#start(stream)
    else this.track(leaving.over.then(() => this.add(stream)))
  }

  /** Redis says that the stream is not ours. */
  lose(run: StreamRun): void {
    this.#lose(run)
  }

  /** A stream has left: finished, released or lost. */
  ended(run: StreamRun, how: StreamEnd): void {
    if (run.state === 'ended') return
    run.end()
    this.#readerOf.get(run)?.remove(run)
    this.#readerOf.delete(run)
    if (this.#runs.get(run.name) === run) this.#runs.delete(run.name)
    if (run.isBusy) this.#awaitHandler(run)
    this.#context.pauses.end(run)
    this.#context.recorder.streamEnded({ how })
    this.#context.emit('streamEnded', { dataStreamName: run.name, position: run.position, how })
  }

  /** Finishes a stream whose last record is done with. */
  finish(run: StreamRun, isCertain: boolean): void {
    this.track(this.#context.endings.finish(run, isCertain))
  }

  /** Stops a stream and says so; it stays owned, so that nobody else goes past the record. */
  halt(run: StreamRun, reason: HaltReason, error: unknown): void {
    run.halt()
    this.announceHalt(run, reason, error)
  }

  announceHalt(run: StreamRun, reason: HaltReason, error: unknown): void {
    const { emit, logger, recorder } = this.#context
    recorder.streamHalted({ reason })
    logger.error({ dataStreamName: run.name, reason, error: describeError(error) }, 'a stream is halted')
    emit('streamHalted', { dataStreamName: run.name, reason, recordId: run.failure?.id ?? null, error })
  }

  /**
   * A reader has found out that Redis does not let it read a stream. What is no stream will not become one by itself. Any
   * other refusal is about this login or this server (a missing permission, say), may end at any moment, and is tried again.
   */
  onUnreadable(target: ReadTarget, error: Error): void {
    const run = this.#runs.get(target.name)
    if (run !== target || run.state === 'halted') return
    if (isReply(error, 'WRONGTYPE')) this.halt(run, 'unreadable', error)
    else this.#putOffReading(run, error)
  }

  /** Does what is due, again and again, until the signal aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    const { commitIntervalMs, idleMs } = this.#context
    const tickMs = Math.max(LEAST_TICK_MS, Math.min(commitIntervalMs / 4, idleMs / 4, GREATEST_TICK_MS))
    while (!signal.aborted) {
      await sleep(tickMs, signal)
      const nowMs = this.#context.run.nowMs()
      for (const run of this.#runs.values()) this.#watch(run, nowMs)
    }
  }

  /** Waits for everything that was started for a stream. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay)
  }

  /** Remembers work until it has settled. It must not reject. */
  track(work: Promise<unknown>): void {
    this.#underWay.add(work)
    void work.then(() => this.#underWay.delete(work))
  }

  /** The stream may be ours again at once: the handler of its next run must not begin beside this one. */
  #awaitHandler(run: StreamRun): void {
    this.#leaving.set(run.name, run)
    this.track(
      run.over.then(() => {
        if (this.#leaving.get(run.name) === run) this.#leaving.delete(run.name)
      }),
    )
  }

  #putOffReading(run: StreamRun, error: Error): void {
    const { emit, logger } = this.#context
    run.putOffReading(backoffMs(run.refusedReads, FIRST_REFUSAL_MS, GREATEST_REFUSAL_MS))
    if (++run.refusedReads > 1) return
    const problem = `reading ${run.name} is refused, and is tried again until it is not: ${error.message}`
    logger.error({ dataStreamName: run.name }, problem)
    emit('error', new WorkerError('STREAM_UNREADABLE', problem, { cause: error }))
  }

  #start(stream: OwnedStream): void {
    const { crashes, emit, pauses, recorder, run: shared, scripts } = this.#context
    const fence = fenceOf(stream)
    const writer = new CheckpointWriter(stream, fence, scripts)
    const run = new StreamRun(stream, fence, writer, {
      ...shared,
      onHungry: (hungry) => this.#readerOf.get(hungry)?.notice(hungry),
    })
    this.#runs.set(run.name, run)
    recorder.streamStarted({ recovered: stream.recovered })
    const problem = this.#restore(run)
    emit('streamStarted', { dataStreamName: run.name, position: run.position, recovered: stream.recovered })
    this.#listen(run)
    if (run.state !== 'active') return
    run.isForeign = problem !== null
    crashes.begin(run)
    pauses.begin(run)
    if (problem !== null) this.halt(run, 'checkpoint-foreign', problem)
    else if (run.progress.checkpoint.isHalted)
      this.halt(run, 'exhausted', new Error(run.failure?.error ?? 'halted'))
    else this.#begin(run)
  }

  #begin(run: StreamRun): void {
    const { finished } = run.progress
    run.pauseUntilDue()
    if (!run.isLastDone) this.#read(run)
    if (finished !== null) this.finish(run, finished.isCertain)
  }

  #restore(run: StreamRun): unknown {
    try {
      run.restore(decodeCheckpoint(run.stream.checkpoint))
      return null
    } catch (error) {
      return error
    }
  }

  /**
   * The signal aborts when the client closes or when other clients own fewer streams, and then the stream is still owned;
   * or when ownership is over.
   */
  #listen(run: StreamRun): void {
    const { signal } = run.stream
    const onAbort = (): void => {
      if (run.stream.owned) this.track(this.#context.endings.release(run))
      else if (!run.isHandedBack) this.#lose(run)
    }
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  }

  /** Has the stream looked at and then read: what was removed meanwhile is told before what follows is handled. */
  #read(run: StreamRun): void {
    this.track(this.#context.lookFirst(run).then(() => this.#assignReader(run)))
  }

  /** Has the stream read by the reader with the fewest. */
  #assignReader(run: StreamRun): void {
    if (run.state === 'ended' || this.#readerOf.has(run)) return
    const [first, ...rest] = this.#context.readers as readonly [StreamReader, ...StreamReader[]]
    const reader = rest.reduce((least, each) => (each.size < least.size ? each : least), first)
    this.#readerOf.set(run, reader)
    reader.add(run)
  }

  /**
   * Lets a halted stream go on, and resolves when that is committed. One that was halted because of its checkpoint goes on
   * where the checkpoint is now. Rejects with CHECKPOINT_FOREIGN if that is still not a worker's, with STREAM_NOT_HALTED,
   * and as StreamRun.commit does.
   */
  async resume(run: StreamRun, skip: boolean): Promise<void> {
    const found = run.isForeign ? await this.#context.scripts.checkpoint(run.name) : undefined
    if (run.state !== 'halted') {
      throw new WorkerError('STREAM_NOT_HALTED', `${run.name} is neither halted nor paused but ${run.state}`)
    }
    if (found !== undefined) run.restore(decodeCheckpoint(found))
    run.isForeign = false
    run.resume(skip)
    if (!this.#readerOf.has(run)) this.#read(run)
    if (run.isLastDone) this.finish(run, true)
    await run.commit()
  }

  /**
   * Lets a halted stream go on with the record it was halted at, and drops its dead letter, in one step. Rejects with
   * STREAM_NOT_HALTED (or it was halted at another record), and as CheckpointWriter.transact does.
   */
  async replayAtHead(run: StreamRun, recordId: string, dropLetter: ScriptCommand): Promise<void> {
    if (run.state !== 'halted' || run.failure?.id !== recordId) {
      throw new WorkerError('STREAM_NOT_HALTED', `${run.name} is not halted at the record ${recordId}`)
    }
    await run.writer.transact([dropLetter], () => run.draftResume())
    if (!this.#readerOf.has(run)) this.#read(run)
  }

  #lose(run: StreamRun): void {
    const { dataStreamName } = run.stream
    run.attempt?.abort(
      'lost',
      new StreamClientError('STREAM_NOT_OWNED', `${dataStreamName} is not owned any more`, {
        dataStreamName,
      }),
    )
    this.ended(run, 'lost')
  }

  #watch(run: StreamRun, nowMs: number): void {
    const { commitIntervalMs, idleMs, slowHandlers } = this.#context
    // Only a handler that runs can hang: a stream without one waits for a record, a retry, a place or a person.
    if (run.attempt === null) run.stream.touch()
    slowHandlers.check(run, nowMs)
    if (run.state !== 'active' && run.state !== 'retrying') return
    if (run.progress.dirtyForMs(nowMs) >= commitIntervalMs && nowMs >= run.commitNotBeforeMs) {
      this.track(this.#commit(run))
    }
    if (run.isIdle && nowMs - run.lastActivityMs >= idleMs) this.finish(run, false)
  }

  async #commit(run: StreamRun): Promise<void> {
    run.commitNotBeforeMs = Infinity
    try {
      await run.commit()
      run.commitNotBeforeMs = 0
    } catch (error) {
      if (isLoss(error)) return this.#lose(run)
      run.commitNotBeforeMs = this.#context.run.nowMs() + COMMIT_RETRY_MS
      this.#context.emit('error', error as Error)
    }
  }
}
