/**
 * The door for the packages of this project that build on the client, such as the worker. It is not for
 * applications: what is here may change at any time.
 */
import { type JsonObject, type OwnedStream, StreamClientError } from '@redis-stream-client/notifs'
import { StreamHandle } from './ownership/stream-handle.js'
import type { Tenure } from './redis/stream-scripts.js'

export { CallOrder } from './async/call-order.js'
export { MicroBatch } from './async/micro-batch.js'
export { sleep } from './async/sleep.js'
export { TimeSlice } from './async/time-slice.js'
export { GREATEST_TIMER_MS, startTimer } from './async/timer.js'
export { backoffMs } from './decisions/backoff.js'
export { logFailures } from './failure-log.js'
export { type Guarded, guardMethods } from './guarded-methods.js'
export type { InfoSchema } from './info-schema.js'
export { refuseKeyPrefix } from './lbs-producer.js'
export { defaultLogger, guardLogger, type SafeLogger } from './logger.js'
export { explainIssue, invalidOption, unknownOption } from './option-errors.js'
export { resolveInfoSchema } from './options.js'
export { added, disowned, expired } from './ownership/notices.js'
export { type StreamFacts, StreamHandle, type StreamOperations } from './ownership/stream-handle.js'
export { Connection } from './redis/connection.js'
export { bytesReceivedFromAll, isCluster, type RedisLike } from './redis/duplicate.js'
export { decodeLetterFields, encodeLetterFields, pairsOf } from './redis/letter-fields.js'
export { listLetters, type RawLetter } from './redis/letter-list.js'
export { isReply, isTransient, messageOf, redisError } from './redis/redis-errors.js'
export { Script } from './redis/script.js'
export { SentBytes } from './redis/sent-bytes.js'
export {
  familyPrefix,
  LBS_FIELD,
  reservedNameProblem,
  resolveServiceKeys,
  type ServiceKeys,
  singleKey,
} from './service-keys.js'
export { Outage } from './session/outage.js'

/** What a script has to compare before it may act in the name of an owner: session, lock record and fence. */
export interface Fence extends Tenure {
  readonly clientId: string
  readonly token: string
  /** True if the owner before crashed or hung, and was no earlier session of this process. */
  readonly ownerFell: boolean
  /** True while the owner may act. Reads the clock. */
  isHeld(): boolean
  /** Aborts when the session is over. */
  readonly sessionSignal: AbortSignal
  /**
   * Draws the number of the next commit (see lua/commit.lua). A script that writes the checkpoint itself keeps it in
   * the lock record, so that a commit sent earlier and executed later is ignored. The caller must not have a commit
   * of the same stream under way.
   */
  nextCommit(): number
}

/** The fence of a stream that a client of this package has handed out. */
export function fenceOf(stream: OwnedStream): Fence {
  const handle = handleOf(stream)
  return {
    clientId: handle.session.clientId,
    token: handle.session.token,
    dataStreamName: handle.dataStreamName,
    idInLbs: handle.idInLbs,
    fencingToken: handle.fencingToken,
    ownerFell: handle.ownerFell,
    sessionSignal: handle.session.signal,
    isHeld: () => handle.owned,
    nextCommit: () => handle.nextCommit(),
  }
}

/** Info of a stream's entry, for an entry that assigns it anew: what a schema has made of it may have no JSON form. */
export function infoOf(stream: OwnedStream): JsonObject | undefined {
  return handleOf(stream).info
}

function handleOf(stream: OwnedStream): StreamHandle {
  if (stream instanceof StreamHandle) return stream
  throw new StreamClientError('OPTION_INVALID', `${stream.dataStreamName} was not made by this client`)
}
