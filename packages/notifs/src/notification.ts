/** What a client tells the application: a closed set of notifications, told apart by their `type`. */
import type { JsonObject } from './json-object.js'
import type { LbsInfo, OwnedStream } from './owned-stream.js'

/** This client owns a data stream now. */
export interface StreamAdded<Info = JsonObject> {
  readonly type: 'StreamAdded'
  readonly payload: LbsInfo
  /** `Info` of the LBS message, `{}` if it had none; with an `infoSchema` what the schema answers for it. */
  readonly additionalInfo: Info
  /** What to work with. */
  readonly stream: OwnedStream<Info>
  /** True if the stream was taken over from an earlier owner. */
  readonly recovered: boolean
}

/** A data stream lost its owner, or was given back, and may be claimed. Others may have been told too. */
export interface StreamExpired<Info = JsonObject> {
  readonly type: 'StreamExpired'
  readonly payload: LbsInfo
  /** `Info` of the LBS message, `{}` if it had none; with an `infoSchema` what the schema answers for it. */
  readonly additionalInfo: Info
  /** Client id of the one that fell; null after a handover. */
  readonly previousOwner: string | null
}

/** This client does not own a data stream any more, and did not ask for that. Stop working on it. */
export interface StreamDisowned<Info = JsonObject> {
  readonly type: 'StreamDisowned'
  readonly payload: LbsInfo
  /** `Info` of the LBS message, `{}` if it had none; with an `infoSchema` what the schema answers for it. */
  readonly additionalInfo: Info
  readonly reason: DisownReason
}

/** The last notification: the client has shut down, nothing comes after it. */
export interface StreamTerminated {
  readonly type: 'StreamTerminated'
  /** One sentence for people. */
  readonly additionalInfo: { readonly info: string }
  readonly reason: TerminationReason
  /** What went wrong, where something did. */
  readonly error?: Error
}

export type Notification<Info = JsonObject> =
  | StreamAdded<Info>
  | StreamExpired<Info>
  | StreamDisowned<Info>
  | StreamTerminated

/**
 * Why a stream is not owned any more: the client's session ended (`session-lost`), another owner has it
 * (`taken-over`), its entry is not in the LBS any more (`entry-gone`), it was neither committed nor touched for
 * `progressTimeoutMs` (`no-progress`), or its owner was asked to give it back because others have fewer streams, and has
 * not done so in time (`rebalanced`). After the last two it goes to another client.
 */
export type DisownReason = 'session-lost' | 'taken-over' | 'entry-gone' | 'no-progress' | 'rebalanced'

/**
 * Why the client shut down: `done()` was called, `close()` was called, the signal given to `init` aborted, or
 * reading the LBS failed more often than the retry options allow.
 */
export type TerminationReason = 'done' | 'closed' | 'aborted' | 'retries-exhausted'
