/**
 * What the worker commits as checkpoint of a data stream: JSON with the id of the last record that is done with,
 * and what the next owner has to know beyond that. Short names, because Redis keeps one for every stream.
 */
import { isPosition, START } from '@redis-stream-client/handling'
import { WorkerError } from '../contract/worker-error.js'

/** How the record after the position has failed so far. */
export interface RecordFailure {
  readonly id: string
  readonly attempts: number
  /** How many owners have crashed or hung while they handled it. */
  readonly crashes: number
  /** True while an owner handles it that wants to know after a crash which record it was. */
  readonly isTrying: boolean
  readonly firstAtMs: number
  readonly lastAtMs: number
  /** When the next attempt is due, by the clock of the worker that saw the failure. */
  readonly dueAtMs: number
  readonly error: string
  /** The stream ends with this record, even if it goes to the dead letters. */
  readonly isLast: boolean
}

export interface WorkerCheckpoint {
  /** Every record up to and including this id is done with. */
  readonly position: string
  /** How many records of the stream were handled, or are known to be lost. Null if that is not known. */
  readonly accounted: number | null
  readonly failure: RecordFailure | null
  /** The stream does not go on until somebody resumes it. */
  readonly isHalted: boolean
  /** No record begins until somebody resumes it, whoever owns the stream. */
  readonly isPaused: boolean
  /** How many owners have crashed or hung while they handled a record of which only the neighbourhood is known. */
  readonly unexplainedCrashes: number
  /** Null while there is work. */
  readonly finished: Finish | null
}

/** An assignment that is finished and only has to be closed. */
export interface Finish {
  readonly idInLbs: string
  /** False if nobody said so and the stream was only idle: a record that has come meanwhile calls it off. */
  readonly isCertain: boolean
}

export const FRESH: WorkerCheckpoint = {
  position: START,
  accounted: 0,
  failure: null,
  isHalted: false,
  isPaused: false,
  unexplainedCrashes: 0,
  finished: null,
}

export function encodeCheckpoint({
  accounted,
  failure,
  finished,
  isHalted,
  isPaused,
  position,
  unexplainedCrashes,
}: WorkerCheckpoint): string {
  if (failure === null && !isHalted && !isPaused && unexplainedCrashes === 0 && finished === null) {
    return accounted === null ? `{"id":"${position}"}` : `{"id":"${position}","n":${accounted}}`
  }
  return JSON.stringify({
    id: position,
    ...(accounted === null ? {} : { n: accounted }),
    ...(failure === null ? {} : { failed: encodeFailure(failure) }),
    ...(isHalted ? { halted: true } : {}),
    ...(isPaused ? { paused: true } : {}),
    ...(unexplainedCrashes === 0 ? {} : { crashes: unexplainedCrashes }),
    ...(finished === null ? {} : { finished: finished.idInLbs }),
    ...(finished?.isCertain === false ? { idle: true } : {}),
  })
}

/**
 * Reads a checkpoint. A bare record id is taken as a position, so that a service can move to the worker.
 * @throws WorkerError CHECKPOINT_FOREIGN: somebody else wrote it.
 */
export function decodeCheckpoint(text: string | null): WorkerCheckpoint {
  if (text === null) return FRESH
  if (isPosition(text)) return { ...FRESH, position: text, accounted: null }
  const value = parseObject(text)
  const { id, crashes, failed, finished, halted, idle, n, paused } = value
  if (typeof id !== 'string' || !isPosition(id)) throw foreign(text)
  return {
    position: id,
    accounted: Number.isSafeInteger(n) ? (n as number) : null,
    failure: failed === undefined ? null : readFailure(failed, text),
    isHalted: halted === true,
    isPaused: paused === true,
    unexplainedCrashes: Number.isSafeInteger(crashes) ? (crashes as number) : 0,
    finished: typeof finished === 'string' ? { idInLbs: finished, isCertain: idle !== true } : null,
  }
}

function encodeFailure({ crashes, isLast, isTrying, ...failure }: RecordFailure): object {
  return {
    ...failure,
    ...(crashes > 0 ? { crashes } : {}),
    ...(isTrying ? { isTrying } : {}),
    ...(isLast ? { isLast } : {}),
  }
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw foreign(text, error)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw foreign(text)
  return value as Record<string, unknown>
}

function readFailure(value: unknown, text: string): RecordFailure {
  const failure = (value ?? {}) as Partial<RecordFailure>
  const { id, attempts, crashes = 0, firstAtMs, lastAtMs, dueAtMs, error, isLast, isTrying } = failure
  const isWhole =
    typeof id === 'string' &&
    typeof attempts === 'number' &&
    typeof firstAtMs === 'number' &&
    typeof lastAtMs === 'number' &&
    typeof error === 'string'
  if (!isWhole) throw foreign(text)
  return {
    id,
    attempts,
    crashes,
    isTrying: isTrying === true,
    firstAtMs,
    lastAtMs,
    dueAtMs: typeof dueAtMs === 'number' ? dueAtMs : lastAtMs,
    error,
    isLast: isLast === true,
  }
}

function foreign(text: string, cause?: unknown): WorkerError {
  const shown = text.length > 100 ? `${text.slice(0, 100)}...` : text
  return new WorkerError(
    'CHECKPOINT_FOREIGN',
    `the checkpoint was not written by a worker: ${shown}. Set it to the id of the last record that is done with, ` +
      'or remove it to begin with the first record; then resume the stream',
    { cause },
  )
}
