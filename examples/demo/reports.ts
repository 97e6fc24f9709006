/** What the processes tell the one that started them, for the pictures and the measurements. */
import type { SessionState } from '@redis-stream-client/client'
import type { StreamEnd } from '@redis-stream-client/worker'

export type Report =
  | { readonly type: 'session'; readonly state: SessionState }
  /** A data stream is owned, `atMs` since 1970. */
  | { readonly type: 'took'; readonly airport: string; readonly atMs: number }
  /** Flights counted so far, by airport; of those that have changed. */
  | { readonly type: 'counted'; readonly flights: Readonly<Record<string, number>> }
  /** A data stream is not owned any more. */
  | { readonly type: 'left'; readonly airport: string; readonly how: StreamEnd }
  /** A stream was taken that another consumer had given back. */
  | { readonly type: 'moved'; readonly ownerlessMs: number }
  /** A flight could not be counted, because somebody else owns its airport now. */
  | { readonly type: 'refused'; readonly code: string }
  /** Flights the producer has added so far. */
  | { readonly type: 'sent'; readonly flights: number }

export function report(what: Report): void {
  // Once the other end is gone nobody listens, and this process is about to leave.
  process.send?.(what, undefined, {}, () => undefined)
}
