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
  /** What was the matter last with a connection that has not answered since. Empty while all is well. */
  readonly connectionProblems: readonly {
    readonly connection: 'commands' | 'heartbeat' | 'reader' | 'hints'
    readonly message: string
    readonly atMs: number
  }[]
}
