/** Builds what takes, claims and changes streams in the name of a session, from its first moment on. */
import type { StreamExpired } from '@redis-stream-client/notifs'
import type { ClientContext, ClientParts } from './client-parts.js'
import { ClaimRequests } from './ownership/claim-requests.js'
import { StreamChanges } from './ownership/stream-changes.js'
import { StreamTaker } from './ownership/stream-taker.js'
import { ToldEntries } from './ownership/told-entries.js'
import type { Session } from './session/session.js'

/** Pause before an entry that Redis has refused is tried again. */
const REFUSED_PAUSE_MS = 1000

export interface SessionStreams {
  readonly told: ToldEntries
  readonly streamChanges: StreamChanges
  readonly taker: StreamTaker
  readonly claimRequests: ClaimRequests
}

/** What a session begins with. */
export interface SessionStart {
  readonly session: Session
  /** Aborts when the client closes. */
  readonly closing: AbortSignal
  /** What the application was told of in an earlier session, and has not read. */
  readonly unread: readonly StreamExpired[]
}

export function sessionStreams(
  { broker, logger, options, recorder }: ClientContext,
  parts: ClientParts,
  { closing, session, unread }: SessionStart,
): SessionStreams {
  const below = { ...options, ...parts, broker, closing, logger, recorder, session }
  const streamChanges = new StreamChanges(below)
  const taker = new StreamTaker({
    ...below,
    operations: streamChanges,
    onRefused: () => parts.reconciliation.fireLater(REFUSED_PAUSE_MS),
  })
  return {
    told: new ToldEntries(below, unread),
    streamChanges,
    taker,
    claimRequests: new ClaimRequests({ ...below, taker }),
  }
}
