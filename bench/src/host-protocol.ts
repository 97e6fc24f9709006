/**
 * What the bench and its host processes tell each other, one JSON object per line.
 *
 * A host is a process in which members live: clients of ours, BullMQ workers, or bare loops of commands. All hosts
 * speak alike, so a scenario does not depend on who is measured. A host counts by itself and says its counts at most
 * every few milliseconds: a line per stream would be a load of its own.
 */

export interface Counts {
  /** Streams (jobs, entries) this member was given, taken over ones too. */
  readonly taken: number
  /** Those of them that someone else had before. */
  readonly recovered: number
  /** StreamExpired. */
  readonly expired: number
  /** Claims this member has sent, each of one entry, won or not. */
  readonly claims: number
  /** StreamDisowned. */
  readonly disowned: number
  readonly done: number
  /** Sessions that were lost, and those that began after one was lost. */
  readonly sessionsLost: number
  readonly sessionsRegained: number
  /** When the last stream was taken, on the shared clock; 0 before. */
  readonly lastTakenAtMs: number
  readonly lastExpiredAtMs: number
}

export const NO_COUNTS: Counts = {
  taken: 0,
  recovered: 0,
  expired: 0,
  claims: 0,
  disowned: 0,
  done: 0,
  sessionsLost: 0,
  sessionsRegained: 0,
  lastTakenAtMs: 0,
  lastExpiredAtMs: 0,
}

/** What a member does with a stream it was given. */
export type OnStream =
  /** Keeps it; nobody reads its signal. */
  | 'hold'
  /** Keeps it, and gives it back at once when its signal aborts. */
  | 'hold-and-listen'
  /** Keeps it; when its signal aborts, works on for a moment, commits, and gives it back. */
  | 'hand-over'
  /** Finishes it at once. */
  | 'done'

export interface JoinOptions {
  readonly service: string
  readonly onStream?: OnStream
  /** False: nothing is kept per stream, so that memory can be measured. Default true. */
  readonly keepsTimes?: boolean
  /** Every stream that is taken and left is told by its name. Default false. */
  readonly tellsStreams?: boolean
  /** What only this kind of member understands. */
  readonly settings?: Readonly<Record<string, unknown>>
}

/** A member was given a stream, or has stopped working on it: the moment on the shared clock. */
export interface StreamEvent {
  readonly kind: 'taken' | 'left'
  readonly member: string
  readonly stream: string
  readonly atMs: number
}

/** When things happened to a member, on the shared clock, and how long each entry was under way. */
export interface Times {
  readonly takenAtMs: readonly number[]
  readonly expiredAtMs: readonly number[]
  readonly latencyMs: readonly number[]
}

/** Of the whole host since it was asked to `measure`. */
export interface HostReport {
  /** The longest time the event loop was kept busy by this process. */
  readonly blockMs: number
  /** The longest time a timer was late, time in which the machine ran something else included. */
  readonly lateMs: number
  readonly cpuMs: number
  readonly overMs: number
}

export interface Heap {
  readonly heapUsed: number
  readonly rss: number
  /** Sockets and the like that are open; timers come and go with the work. */
  readonly handles: number
}

export type HostCommand =
  | ({ readonly call: 'join'; readonly member: string } & JoinOptions)
  | { readonly call: 'leave' | 'times' | 'signals'; readonly member: string }
  /** Watching the event loop costs processor time of its own; without it, blocks are not reported. */
  | { readonly call: 'measure'; readonly watchesLoop: boolean }
  | { readonly call: 'report' | 'collect' }

export type HostLine =
  | { readonly type: 'ready' }
  | { readonly type: 'counts'; readonly member: string; readonly counts: Counts }
  | { readonly type: 'streams'; readonly events: readonly StreamEvent[] }
  | { readonly type: 'answer'; readonly n: number; readonly result?: unknown; readonly error?: string }
