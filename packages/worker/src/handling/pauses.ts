/** Streams, and the whole worker, whose records are not begun because somebody has asked for it. */
import { WorkerError } from '../contract/worker-error.js'
import type { WorkerEvents } from '../contract/worker-events.js'
import type { SafeWorkerRecorder } from '../contract/worker-metrics.js'
import type { StreamRun } from '../progress/stream-run.js'
import type { PauseStatus } from '../watching/worker-status.js'
import { isLoss } from './turns.js'

export interface PausesContext {
  readonly recorder: SafeWorkerRecorder
  readonly emit: <Name extends 'streamPaused' | 'streamResumed'>(
    event: Name,
    payload: Parameters<WorkerEvents[Name]>[0],
  ) => void
}

export class Pauses {
  readonly #context: PausesContext
  readonly #paused = new Set<StreamRun>()
  /** How streams are paused that are taken from now on; null if they are not. */
  #keepsAll: boolean | null = null

  constructor(context: PausesContext) {
    this.#context = context
  }

  get status(): PauseStatus {
    return { isPaused: this.#keepsAll !== null, streams: this.#paused.size }
  }

  /** A stream was taken, and its checkpoint restored. */
  begin(run: StreamRun): void {
    if (this.#keepsAll !== null) run.hold(this.#keepsAll && !run.isForeign)
    if (run.paused !== null) this.#note(run)
  }

  /** A stream has left. */
  end(run: StreamRun): void {
    if (this.#paused.delete(run)) this.#count()
  }

  /**
   * Begins no record of a stream any more. With `keeps` it resolves when that is committed, and rejects with
   * CHECKPOINT_FOREIGN and as StreamRun.commit does.
   */
  async pause(run: StreamRun, keeps: boolean): Promise<void> {
    if (keeps && run.isForeign) {
      const problem = `the checkpoint of ${run.name} is not the worker's: there is no place to keep that it is paused`
      throw new WorkerError('CHECKPOINT_FOREIGN', problem)
    }
    this.#hold(run, keeps)
    if (keeps) await run.commit()
  }

  /** The same for all streams, and those that are taken later. One that is lost meanwhile is none any more. */
  async pauseAll(runs: Iterable<StreamRun>, keeps: boolean): Promise<void> {
    this.#keepsAll = keeps || this.#keepsAll === true
    await settleAll([...runs].map((run) => this.pause(run, keeps && !run.isForeign)))
  }

  /** Begins records of a stream again. Resolves when that is committed; rejects as StreamRun.commit does. */
  async resume(run: StreamRun): Promise<void> {
    if (run.paused === null) return
    const wasKept = run.paused === 'kept'
    this.#paused.delete(run)
    this.#count()
    run.unhold()
    if (wasKept) await run.commit()
    this.#context.emit('streamResumed', { dataStreamName: run.name })
  }

  /** The same for all streams. */
  async resumeAll(runs: Iterable<StreamRun>): Promise<void> {
    this.#keepsAll = null
    await settleAll([...runs].map((run) => this.resume(run)))
  }

  #hold(run: StreamRun, keeps: boolean): void {
    const before = run.paused
    run.hold(keeps)
    if (run.paused !== before) this.#note(run)
  }

  #note(run: StreamRun): void {
    this.#paused.add(run)
    this.#count()
    this.#context.emit('streamPaused', { dataStreamName: run.name, isKept: run.paused === 'kept' })
  }

  #count(): void {
    this.#context.recorder.paused({ streams: this.#paused.size })
  }
}

/** Waits for all, and rejects with the first problem that is none of a stream that was lost. */
async function settleAll(work: readonly Promise<void>[]): Promise<void> {
  const problems = (await Promise.allSettled(work)).flatMap((each) =>
    each.status === 'rejected' && !isLoss(each.reason) ? [each.reason as unknown] : [],
  )
  if (problems.length > 0) throw problems[0]
}
