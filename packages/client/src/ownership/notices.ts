/** The notifications about a stream, made so that no reader or listener can change what another one sees. */
import type {
  DisownReason,
  JsonObject,
  LbsInfo,
  LbsMessage,
  OwnedStream,
  StreamAdded,
  StreamDisowned,
  StreamExpired,
} from '@redis-stream-client/notifs'
import { freezeJson } from '@redis-stream-client/notifs/internal'

export function added(stream: OwnedStream): StreamAdded {
  return Object.freeze({
    type: 'StreamAdded',
    payload: payloadOf(stream),
    get additionalInfo() {
      return stream.additionalInfo
    },
    stream,
    recovered: stream.recovered,
  })
}

export function disowned(stream: OwnedStream, reason: DisownReason): StreamDisowned {
  return Object.freeze({
    type: 'StreamDisowned',
    payload: payloadOf(stream),
    get additionalInfo() {
      return stream.additionalInfo
    },
    reason,
  })
}

/** The facts of a StreamExpired. A large Info is parsed only when it is read. */
export interface ExpiredFacts extends Pick<StreamExpired, 'payload' | 'previousOwner'> {
  readonly message: LbsMessage
}

export function expired({ message, payload, previousOwner }: ExpiredFacts): StreamExpired {
  return Object.freeze({
    type: 'StreamExpired',
    payload: payloadOf(payload),
    // Frozen only when it is read, as that of an owned stream is.
    get additionalInfo(): JsonObject {
      return freezeJson(message.info ?? {})
    },
    previousOwner,
  })
}

function payloadOf({ dataStreamName, idInLbs }: LbsInfo): LbsInfo {
  return Object.freeze({ dataStreamName, idInLbs })
}
