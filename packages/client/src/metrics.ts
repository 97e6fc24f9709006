/** What the client reports about itself, for whatever metrics system an application has. */
import type { DisownReason } from '@redis-stream-client/notifs'
import { type Guarded, guardMethods } from './guarded-methods.js'

/** Each method is called with one object of plain values. All are optional; one that throws, or rejects, harms nobody. */
export interface MetricsRecorder {
  /** Entries of dead sessions that were taken when a session began. */
  startupRecovery?(event: { taken: number; durationMs: number }): void
  /** The answer to `claim`, or to a claim of the client's own in auto mode. */
  claimAttempt?(event: { outcome: TakeOutcome; durationMs: number }): void
  /** The answer to one batch of entries that were read or claimed. */
  lockAcquisition?(event: {
    mode: 'acquire' | 'dealt' | 'claim'
    entries: number
    taken: number
    durationMs: number
  }): void
  /** One try to extend the session. */
  heartbeat?(event: {
    outcome: 'extended' | 'failed' | 'lost' | 'late'
    durationMs: number
    trustLeftMs: number
  }): void
  /** A stream was given back or finished, or could not be. */
  lockRelease?(event: { operation: 'done' | 'release'; outcome: 'ok' | 'failed' }): void
  streamStarted?(event: { recovered: boolean }): void
  streamFinished?(event: { operation: 'done' | 'release' | 'disowned'; durationMs: number }): void
  /** A hint that a client is silent, by its source. */
  expiryEvent?(event: { source: 'keyspace' | 'failover' | 'probe' }): void
  disowned?(event: { reason: DisownReason }): void
  deadLettered?(event: { reason: string }): void
  /** A probe round this client has won. `waiting`: streams that wait for an owner, also those that nobody has read of. */
  probe?(event: { consumers: number; dead: number; waiting: number; durationMs: number }): void
  /** This client has found that others have too many streams, and has published a plan. */
  rebalancePlan?(event: { moves: number; level: number; living: number; imbalance: number }): void
  /** How a stream ended that its owner was asked to give back, and after how long. */
  rebalanceMove?(event: { outcome: 'released' | 'finished' | 'timeout'; durationMs: number }): void
  /** How long a stream that was given back had no owner, until this client took it. */
  ownerlessGap?(event: { durationMs: number }): void
  /** How long a notification waited for room in the queue. */
  notificationWait?(event: { durationMs: number }): void
}

export type TakeOutcome =
  | 'taken'
  | 'already-claimed'
  | 'queued'
  | 'gone'
  | 'left'
  | 'dead-lettered'
  | 'failed'

/** A recorder whose every method exists and never throws. */
export type SafeRecorder = Guarded<MetricsRecorder>

const METHODS = [
  'startupRecovery',
  'claimAttempt',
  'lockAcquisition',
  'heartbeat',
  'lockRelease',
  'streamStarted',
  'streamFinished',
  'expiryEvent',
  'disowned',
  'deadLettered',
  'probe',
  'rebalancePlan',
  'rebalanceMove',
  'ownerlessGap',
  'notificationWait',
] as const satisfies readonly (keyof MetricsRecorder)[]

/** Wraps what the application gave: see {@link guardMethods}. */
export function guardRecorder(
  recorder: MetricsRecorder | undefined,
  onError: (error: unknown) => void,
): SafeRecorder {
  return guardMethods<MetricsRecorder>(METHODS, recorder, onError)
}
