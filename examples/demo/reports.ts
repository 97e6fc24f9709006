/** What the processes tell the one that started them, for the pictures and the measurements. */
import type { DisownReason, SessionState } from '@redis-stream-client/client'

/** What a former owner tried; it must be refused. `result` is a write of an airport's result. */
export type FormerOwnersCall = 'commit' | 'done' | 'result'

export type Report =
  | { readonly type: 'session'; readonly state: SessionState }
  /** A data stream is owned, `atMs` since 1970. */
  | { readonly type: 'took'; readonly airport: string; readonly atMs: number }
  /** Flights counted in the checkpoints just committed, by airport. */
  | { readonly type: 'counted'; readonly flights: Readonly<Record<string, number>> }
  | { readonly type: 'finished'; readonly airport: string; readonly flights: number }
  | { readonly type: 'disowned'; readonly airport: string; readonly reason: DisownReason }
  /** `answer`: the code of the error, or what else came back. */
  | { readonly type: 'tried'; readonly call: FormerOwnersCall; readonly answer: string }
  /** Flights the producer has added so far. */
  | { readonly type: 'sent'; readonly flights: number }

export function report(what: Report): void {
  // Once the other end is gone nobody listens, and this process is about to leave.
  process.send?.(what, undefined, {}, () => undefined)
}
