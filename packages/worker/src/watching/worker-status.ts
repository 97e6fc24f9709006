/** What a worker reports about itself when it is asked. */
import type { ClientHealth } from '@redis-stream-client/client'
import { type BreakerState, positionTimeMs } from '@redis-stream-client/handling'
import type { Pause, RunState, StreamRun } from '../progress/stream-run.js'
import type { RecordFailure } from '../progress/worker-checkpoint.js'
import { countAfter, type StreamLook } from '../redis/stream-look.js'
import type { ReadMark } from './lost-records.js'

type ClientProblem = ClientHealth['connectionProblems'][number]

/** A connection as CLIENT LIST names it: `worker` runs scripts, `reader-0` and so on read records. */
export interface WorkerConnectionProblem extends Omit<ClientProblem, 'connection'> {
  readonly connection: 'worker' | `reader-${number}`
}

/** The health of the client underneath, and the problems of the worker's own connections. */
export interface WorkerHealth extends Omit<ClientHealth, 'connectionProblems'> {
  /** The last problem of each connection that has not answered since. Empty while all is well. */
  readonly connectionProblems: readonly (ClientProblem | WorkerConnectionProblem)[]
  readonly paused: PauseStatus
}

export interface PauseStatus {
  /** True if the whole worker is paused, and with it every stream that it takes. */
  readonly isPaused: boolean
  /** How many of the owned streams are paused. */
  readonly streams: number
}

export interface WorkerStatus {
  readonly client: ClientHealth
  /** `off` if there is none. */
  readonly breaker: BreakerState | 'off'
  readonly paused: PauseStatus
  /** Streams whose handler runs now. */
  readonly running: number
  /** Streams that have records and wait for a place. */
  readonly waiting: number
  /** Records that were read and not handled yet. */
  readonly buffered: number
  /** What they take in memory. */
  readonly bufferedBytes: number
  /** State of the connections that read, in ioredis's words. */
  readonly readers: readonly string[]
  readonly streams: readonly StreamStatus[]
}

export interface StreamStatus {
  readonly dataStreamName: string
  readonly state: RunState
  /** Set while it is paused: `local` under this owner, `kept` under every owner. */
  readonly paused: Pause | null
  /** Id of the last record that is done with. */
  readonly position: string
  /** Id up to which the next owner would not see records again. */
  readonly committed: string
  readonly uncommitted: number
  readonly buffered: number
  /** Records done with since this worker took the stream. */
  readonly handled: number
  /** How the next record has failed so far. */
  readonly failure: RecordFailure | null
  /** Null if Redis did not answer. */
  readonly lag: LagStatus | null
}

export interface LagStatus {
  /** Records after the position. */
  readonly records: number
  /** True if only the first of them were counted: how many there are is then taken from the times in their ids. */
  readonly isEstimate: boolean
  /** Time between the position and the last record, by their ids; 0 without a record after the position. */
  readonly lagMs: number
}

export function describeRun(run: StreamRun, lag: LagStatus | null): StreamStatus {
  return {
    dataStreamName: run.name,
    state: run.state,
    paused: run.paused,
    position: run.position,
    committed: run.committed,
    uncommitted: run.progress.uncommitted,
    buffered: run.buffer.length,
    handled: run.handled,
    failure: run.failure,
    lag,
  }
}

/**
 * Lag of a stream, from how far it was read when it was looked at. Before the first position there is no time to count
 * from: then it is the age of the last record.
 */
export function describeLag(
  { buffered, position, readPosition }: Pick<ReadMark, 'buffered' | 'position' | 'readPosition'>,
  look: StreamLook | null,
  nowMs: number,
): LagStatus {
  if (look === null) return { records: 0, isEstimate: false, lagMs: 0 }
  const { isEstimate, records: unread } = countAfter(readPosition, look)
  const records = unread + buffered
  if (records === 0 || look.lastId === null) return { records, isEstimate, lagMs: 0 }
  const fromMs = positionTimeMs(position)
  const lastMs = positionTimeMs(look.lastId)
  return { records, isEstimate, lagMs: Math.max(0, fromMs === 0 ? nowMs - lastMs : lastMs - fromMs) }
}
