/** What the worker reports about itself, for whatever metrics system an application has. */

import { type Guarded, guardMethods } from '@redis-stream-client/client/internal'
import type { BreakerState } from '@redis-stream-client/handling'

/** Each method is called with one object of plain values. All are optional; one that throws, or rejects, harms nobody. */
export interface WorkerMetricsRecorder {
  /** The handler came to an end with one record or one batch. */
  handled?(event: { records: number; outcome: HandledOutcome; attempt: number; durationMs: number }): void
  /** A record will be tried again. */
  retry?(event: { attempt: number; delayMs: number }): void
  /** A record went to the dead letters. */
  deadLettered?(event: { attempts: number }): void
  /**
   * A position was committed, by itself or with a transaction or a dead letter. `ageMs`: how long its oldest record had
   * been handled and not committed.
   */
  committed?(event: { records: number; ageMs: number; durationMs: number }): void
  /** A transaction was executed. */
  transaction?(event: { commands: number; durationMs: number }): void
  streamStarted?(event: { recovered: boolean }): void
  streamEnded?(event: { how: StreamEnd }): void
  streamHalted?(event: { reason: HaltReason }): void
  /** So many of the owned streams are paused now. */
  paused?(event: { streams: number }): void
  /** Records were trimmed or deleted before they were read. */
  recordsLost?(event: { records: number }): void
  /** A stream was deleted and begun anew; `isBehind`: with ids before the position, which are not read. */
  streamReset?(event: { isBehind: boolean }): void
  /** The circuit breaker has changed its state. */
  breaker?(event: { state: BreakerState }): void
  /** A record waited for the rate limit. */
  rateLimited?(event: { scope: 'process' | 'service'; waitMs: number }): void
  /** Lag of one of the streams furthest behind that are not paused: at most 20 per sample, to bound the number of labels. */
  lag?(event: { dataStreamName: string; records: number; lagMs: number }): void
  /** Lag of all owned streams together; `greatestLagMs`: of those that are not paused. */
  totalLag?(event: { streams: number; records: number; greatestLagMs: number }): void
}

export type HandledOutcome = 'ok' | 'failed' | 'timeout' | 'interrupted'
export type StreamEnd = 'finished' | 'released' | 'lost'
export type HaltReason = 'exhausted' | 'checkpoint-foreign' | 'unreadable'

/** A recorder whose every method exists and never throws. */
export type SafeWorkerRecorder = Guarded<WorkerMetricsRecorder>

const METHODS = [
  'handled',
  'retry',
  'deadLettered',
  'committed',
  'transaction',
  'streamStarted',
  'streamEnded',
  'streamHalted',
  'paused',
  'recordsLost',
  'streamReset',
  'breaker',
  'rateLimited',
  'lag',
  'totalLag',
] as const satisfies readonly (keyof WorkerMetricsRecorder)[]

/** Wraps what the application gave: see {@link guardMethods}. */
export function guardWorkerRecorder(
  recorder: WorkerMetricsRecorder | undefined,
  onError: (error: unknown) => void,
): SafeWorkerRecorder {
  return guardMethods<WorkerMetricsRecorder>(METHODS, recorder, onError)
}
