/** A data stream as its owner holds it. */
import type { JsonObject } from './json-object.js'

/** Which assignment is meant: a data stream, and the entry of the LBS (load-balancer stream) that named it. */
export interface LbsInfo {
  readonly dataStreamName: string
  /** Id of the entry in the LBS, such as `1732228800000-0`. */
  readonly idInLbs: string
}

/**
 * What the owner of a data stream holds, from the moment it took the stream until ownership ends: by `done`, by
 * `release`, because the client shuts down, because its session is over, or because somebody else owns the
 * stream now. A taken stream is a new object with a greater fencing token, even under the same client.
 *
 * An owner should look at `owned` or listen to `signal` while it works, and stop when ownership has ended.
 */
export interface OwnedStream<Info = JsonObject> extends LbsInfo {
  /** `Info` of the LBS message, `{}` if it had none; with an `infoSchema` what the schema answers for it. */
  readonly additionalInfo: Info
  /**
   * Grows with every change of owner. Hand it to what the work writes to, and refuse there whatever comes with
   * a smaller one than was seen before: that keeps out a former owner who was paused and does not know yet.
   */
  readonly fencingToken: number
  /** What an owner last committed when this one took the stream; null if nobody ever did. */
  readonly checkpoint: string | null
  /** True if the stream was taken over from an earlier owner, false for a fresh assignment. */
  readonly recovered: boolean
  /**
   * True while this owner may trust its ownership. Reads the clock at every access, so it turns false on time
   * even when Redis cannot be reached or timers are late. False from the moment `done` or `release` is sent: somebody
   * else may have the stream before the answer is here. Once false it stays false, unless Redis refuses that call.
   */
  readonly owned: boolean
  /**
   * Aborts when ownership ends; its reason is a {@link StreamClientError} that says why. It is made at first
   * use and is the same object afterwards; made after the end, it is aborted already. A client that closes waits
   * (within its limit) for the owners that asked for it. While the stream is still owned it aborts with CLOSED (the client
   * closes) or REBALANCING (others have fewer streams): commit, then release or finish the stream.
   */
  readonly signal: AbortSignal

  /**
   * Keeps a position, or a position and the state that belongs to it, for the next owner. Commits of one stream
   * are applied in the order of the calls; the same checkpoint twice is fine.
   *
   * Resolves when Redis has stored it. Rejects, with nothing stored, as CHECKPOINT_INVALID (no string, or longer
   * than 64 KiB), STREAM_NOT_OWNED (ownership has ended) or SESSION_LOST (the client's session has); as
   * REDIS_ERROR if Redis gave no clear answer, in which case it may be stored or not, and calling again is safe.
   */
  commit(checkpoint: string): Promise<void>

  /**
   * Says that the work on this stream goes on, for a client with the option `progressTimeoutMs`: such a client gives
   * a stream to another one that was neither committed nor touched for so long. Sends nothing, so call it as often as
   * you like. Does nothing once ownership has ended.
   */
  touch(): void

  /**
   * Says that the data stream is finished: its entry leaves the LBS and the next assignment of the same name may
   * begin. The checkpoint is removed with it, unless `keepCheckpoint` is true: then the next owner finds it.
   *
   * Resolves when Redis knows. Rejects, with nothing changed, as STREAM_NOT_OWNED or SESSION_LOST; as REDIS_ERROR
   * without a clear answer, and calling again is safe. Called twice by the same owner, both calls resolve.
   */
  done(options?: { keepCheckpoint?: boolean }): Promise<void>

  /**
   * Gives the stream back unfinished: somebody else shall go on from the last commit.
   *
   * Resolves when Redis knows; the others are told then. Rejects as `done` does; calling twice is as safe.
   */
  release(): Promise<void>
}
