/** Builds what takes, claims and changes streams in the name of a session, from its first moment on. */
import type { StreamExpired } from '@redis-stream-client/notifs'
import type { ClientContext, ClientParts } from './client-parts.js'
import { ClaimRequests } from './ownership/claim-requests.js'
import { Dealer } from './ownership/dealer.js'
import { RefusedEntries } from './ownership/refused-entries.js'
import { StreamChanges } from './ownership/stream-changes.js'
import { StreamIntake } from './ownership/stream-intake.js'
import { StreamTaker } from './ownership/stream-taker.js'
import { ToldEntries } from './ownership/told-entries.js'
import type { Session } from './session/session.js'

/** Pause before an entry that Redis has refused is tried again. */
const REFUSED_PAUSE_MS = 1000

export interface SessionStreams {
  readonly told: ToldEntries
  readonly streamChanges: StreamChanges
  readonly taker: StreamTaker
  readonly dealer: Dealer
  readonly intake: StreamIntake
  readonly claimRequests: ClaimRequests
}

/** What a session begins with. */
export interface SessionStart {
  readonly session: Session
  /** Aborts when nothing more is to be taken, because the session has ended or the client closes. */
  readonly signal: AbortSignal
  /** Aborts when the client closes. */
  readonly closing: AbortSignal
  /** What the application was told of in an earlier session, and has not read. */
  readonly unread: readonly StreamExpired[]
}

export function sessionStreams(
  { broker, logger, onRebalance, options, recorder }: ClientContext,
  parts: ClientParts,
  { unread, ...start }: SessionStart,
): SessionStreams {
  const { housekeeping, reconciliation, view } = parts
  const below = { ...options, ...parts, ...start, broker, logger, recorder }
  const streamChanges = new StreamChanges(below)
  const refusedEntries = new RefusedEntries({
    ...below,
    onRefused: () => reconciliation.fireLater(REFUSED_PAUSE_MS),
  })
  const taker = new StreamTaker({ ...below, operations: streamChanges, refusedEntries })
  const onGone = (): void => housekeeping.requestSweep()
  const onLeftPending = (): void => reconciliation.fire()
  const dealer = new Dealer({ ...below, onGone, onLeftPending })
  const intake = new StreamIntake({
    ...below,
    taker,
    dealer,
    onGone,
    onLeftPending,
    onMoved: (moves) => onRebalance({ role: 'received', moves, level: view.facts?.level ?? Number.NaN }),
  })
  return {
    told: new ToldEntries(below, unread),
    streamChanges,
    taker,
    dealer,
    intake,
    claimRequests: new ClaimRequests({ ...below, taker }),
  }
}
