/** What the worker tells listeners, for logs and alarms. A listener that throws harms nobody. */

import type { BreakerState } from '@redis-stream-client/handling'
import type { HaltReason, StreamEnd } from './worker-metrics.js'

export interface WorkerEvents {
  /** This worker works on a stream from now on. */
  streamStarted: (event: { dataStreamName: string; position: string; recovered: boolean }) => void
  /** It does not any more: finished, handed over, or lost to somebody else. */
  streamEnded: (event: { dataStreamName: string; position: string; how: StreamEnd }) => void
  /** The stream does not go on until somebody resumes it. */
  streamHalted: (event: {
    dataStreamName: string
    reason: HaltReason
    recordId: string | null
    error: unknown
  }) => void
  /** No record of the stream begins until it is resumed; `isKept`: whoever owns it. */
  streamPaused: (event: { dataStreamName: string; isKept: boolean }) => void
  streamResumed: (event: { dataStreamName: string }) => void
  /** A record failed and will be tried again. */
  retry: (event: {
    dataStreamName: string
    recordId: string
    attempt: number
    delayMs: number
    error: unknown
  }) => void
  /** A record was written to the dead letters. */
  deadLetter: (event: { dataStreamName: string; recordId: string; attempts: number; error: unknown }) => void
  /** A handler did not come to an end in time and was left to itself. */
  abandoned: (event: { dataStreamName: string; recordId: string; error: unknown }) => void
  /** Records were trimmed or deleted before they were read. `position`: up to where the stream had been read. */
  recordsLost: (event: { dataStreamName: string; position: string; records: number }) => void
  /**
   * The stream is not the one that was read: it was deleted and begun anew. `isBehind`: its last id is before the position,
   * so what is added is not read until ids are greater again.
   */
  streamReset: (event: {
    dataStreamName: string
    position: string
    lastId: string
    isBehind: boolean
  }) => void
  breaker: (event: { state: BreakerState }) => void
  rateLimited: (event: { scope: 'process' | 'service'; waitMs: number }) => void
  /** Something went wrong that the worker goes on after, or that ended it. */
  error: (error: Error) => void
}
