/**
 * What a worker wrote down: one JSON object per line, written at once, so that nothing is missing after a kill.
 * Times are milliseconds of the machine's monotonic clock, which all its processes share.
 */
import { readFile } from 'node:fs/promises'

/** A stream and the fence under which it is held. */
export type Holding = readonly [dataStreamName: string, fence: number]

export type HistoryEvent =
  /** A stream was given; `isTrusted` was read before `at`. */
  | {
      readonly type: 'given'
      readonly at: number
      readonly stream: string
      readonly id: string
      readonly fence: number
      readonly job: number
      readonly isTrusted: boolean
      /** Job that the checkpoint is of, and its step; null without one. */
      readonly checkpointOf: number | null
      readonly checkpoint: number | null
    }
  /** `commit` has resolved. */
  | {
      readonly type: 'committed'
      readonly at: number
      readonly id: string
      readonly fence: number
      readonly checkpoint: number
    }
  /** What the worker trusted itself to own; read after `at`. What it is about to leave is not among it. */
  | { readonly type: 'trusted'; readonly at: number; readonly holdings: readonly Holding[] }
  /** A job was finished: `done` has resolved. */
  | { readonly type: 'done'; readonly at: number; readonly stream: string; readonly fence: number }
  /** A call was refused. */
  | { readonly type: 'refused'; readonly at: number; readonly call: string; readonly code: string }
  /** A promise was rejected with nobody listening, or an error thrown past everybody. */
  | { readonly type: 'unhandled'; readonly at: number; readonly error: string }
  | { readonly type: 'memory'; readonly at: number; readonly rssBytes: number }

/** The history of one process. */
export interface WorkerHistory {
  readonly worker: string
  readonly events: readonly HistoryEvent[]
}

/** Milliseconds of the clock that all processes of the machine share. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000
}

/** Reads a history; a last line that a kill has cut off is left out. */
export async function readHistory(worker: string, file: string): Promise<WorkerHistory> {
  const text = await readFile(file, 'utf8').catch(() => '')
  const events = text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as HistoryEvent)
  return { worker, events }
}
