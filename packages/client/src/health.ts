/** What a client says about itself, for readiness probes and people. */

/**
 * `starting`: init has not finished. `held`: the client may own streams. `lost`: the session has just ended.
 * `seeking`: a new session is being sought. `closed`: the client is shutting down or has.
 */
export type SessionState = 'starting' | 'held' | 'lost' | 'seeking' | 'closed'

export interface ClientHealth {
  readonly id: string
  readonly session: SessionState
  /** The session's name in the group, null while there is none. */
  readonly consumer: string | null
  /** How long the client would trust itself without another answer of Redis; 0 without a session. */
  readonly trustLeftMs: number
  /** Streams owned now. */
  readonly owned: number
  /** Streams it may own beyond that; Infinity without a limit, which JSON shows as the text `Infinity`. */
  readonly capacity: number
  /**
   * Owned streams whose StreamAdded nobody has read. If it does not fall, the loop over the notifications stands still
   * and nobody works on these streams.
   */
  readonly untold: number
  /** Age of the oldest notification that nobody has read; 0 if none waits. */
  readonly oldestUnreadMs: number
  /** What this client last read or heard of the others; null before that. */
  readonly fleet: {
    /** How many streams a client of weight 1 is to have; Infinity if all together may not own what there is. */
    readonly level: number
    readonly living: number
    /** Streams that wait for an owner, also those that nobody has read of. More than 0 for long: all have their limits. */
    readonly waiting: number
    /** When, milliseconds since 1970. */
    readonly atMs: number
  } | null
  /** How many streams this client is to have at that level; null while the level is not known. */
  readonly share: number | null
  /** Owned streams that were asked to stop because others have fewer. */
  readonly moving: number
  /** Owned streams that cannot be asked to move: nobody has read their signal. */
  readonly unmovable: number
  /** True after `drain`. */
  readonly draining: boolean
  /** Free places in the notification queue. */
  readonly queueRoom: number
  /** When the LBS was read last (milliseconds since 1970), null before the first time. */
  readonly lastReadAtMs: number | null
  /** The last thing that went wrong, null if nothing has. */
  readonly lastError: { readonly message: string; readonly code: string | null; readonly atMs: number } | null
  /** States of the connections in ioredis's words. */
  readonly connections: {
    readonly commands: string
    readonly heartbeat: string
    readonly reader: string
    readonly hints: readonly string[]
  }
  /** The last problem of each connection that has not answered since. Empty while all is well. */
  readonly connectionProblems: readonly {
    readonly connection: 'commands' | 'heartbeat' | 'reader' | 'hints'
    readonly message: string
    readonly atMs: number
  }[]
}
