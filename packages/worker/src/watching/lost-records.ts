/**
 * Detects what no read shows: records that were removed from a data stream before they were read (a producer trimmed it,
 * or they were deleted), and streams that were deleted and begun anew.
 *
 * Redis counts the records that were ever added to a stream. Those that do not lie after the read position any more were
 * handled, wait in the buffer, or were removed before they were read. How many were handled is kept in the checkpoint
 * (`accounted`), so the difference is what was lost:
 *
 *   added - after the read position  =  accounted + in the buffer + lost
 *
 * A difference below zero means another stream: its count has begun anew.
 */
import type { SafeLogger } from '@redis-stream-client/client/internal'
import { comparePositions } from '@redis-stream-client/handling'
import type { WorkerEvents } from '../contract/worker-events.js'
import type { SafeWorkerRecorder } from '../contract/worker-metrics.js'
import type { StreamRun } from '../progress/stream-run.js'
import { countGone, type StreamLook } from '../redis/stream-look.js'

export interface LostRecordsContext {
  readonly recorder: SafeWorkerRecorder
  readonly logger: SafeLogger
  readonly emit: <Name extends 'recordsLost' | 'streamReset'>(
    event: Name,
    payload: Parameters<WorkerEvents[Name]>[0],
  ) => void
}

/** How far a stream was read when it was looked at. */
export interface ReadMark {
  readonly run: StreamRun
  readonly position: string
  readonly readPosition: string
  /** How many were handled, or are known to be lost. Null if it is not known. */
  readonly accounted: number | null
  readonly handled: number
  readonly buffered: number
  readonly findings: number
}

interface Findings {
  /** How often something was found: what was marked before that counts from another number. */
  count: number
  isSuspect: boolean
  isBehind: boolean
}

export class LostRecords {
  readonly #context: LostRecordsContext
  readonly #findings = new WeakMap<StreamRun, Findings>()

  constructor(context: LostRecordsContext) {
    this.#context = context
  }

  mark(run: StreamRun): ReadMark {
    const { buffer, handled, position, progress, readPosition } = run
    const findings = this.#findingsOf(run).count
    return {
      run,
      position,
      readPosition,
      accounted: progress.accounted,
      handled,
      buffered: buffer.length,
      findings,
    }
  }

  /** Compares what was found in Redis with how far the stream had been read when it was asked. */
  check(mark: ReadMark, look: StreamLook | null): void {
    const { accounted, buffered, findings, handled, readPosition, run } = mark
    const known = this.#findingsOf(run)
    if (look === null || findings !== known.count || (run.state !== 'active' && run.state !== 'retrying'))
      return
    if (comparePositions(look.greatestId, readPosition) < 0) {
      if (!known.isBehind)
        this.#report(run, { position: readPosition, lastId: look.greatestId, isBehind: true })
      known.isBehind = true
      return
    }
    known.isBehind = false
    const gone = countGone(look)
    if (look.added === null) run.progress.account(null)
    if (gone === null) return
    if (accounted === null) {
      if (run.handled === handled) run.progress.account(gone - buffered)
      return
    }
    const lost = gone - accounted - buffered
    // What was read since the mark, and removed before the look, is not lost: then the next look finds nothing.
    const isSure = lost !== 0 && (known.isSuspect || run.readPosition === readPosition)
    known.isSuspect = lost !== 0 && !isSure
    if (!isSure) return
    known.count++
    run.progress.account((run.progress.accounted as number) + lost)
    if (lost > 0) this.#reportLost(run, readPosition, lost)
    else this.#report(run, { position: readPosition, lastId: look.greatestId, isBehind: false })
  }

  #reportLost(run: StreamRun, position: string, records: number): void {
    const { emit, logger, recorder } = this.#context
    const facts = { dataStreamName: run.name, position, records }
    logger.warn(facts, 'records were lost: they were trimmed or deleted before they were read')
    recorder.recordsLost({ records })
    emit('recordsLost', facts)
  }

  #report(run: StreamRun, facts: { position: string; lastId: string; isBehind: boolean }): void {
    const { emit, logger, recorder } = this.#context
    const event = { dataStreamName: run.name, ...facts }
    logger.warn(
      event,
      facts.isBehind
        ? 'the data stream ends before the position of its worker: it was begun anew, or Redis has lost writes; ' +
            'records up to the position are not read'
        : 'the data stream was deleted and begun anew: what was not read of the old one is lost',
    )
    recorder.streamReset({ isBehind: facts.isBehind })
    emit('streamReset', event)
  }

  #findingsOf(run: StreamRun): Findings {
    const known = this.#findings.get(run) ?? { count: 0, isSuspect: false, isBehind: false }
    this.#findings.set(run, known)
    return known
  }
}
