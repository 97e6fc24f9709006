/** The notifications about a stream, made so that no reader or listener can change what another one sees. */
import type {
  DisownReason,
  JsonObject,
  LbsInfo,
  LbsMessage,
  StreamAdded,
  StreamDisowned,
  StreamExpired,
} from '@redis-stream-client/notifs'
import { freezeJson } from '@redis-stream-client/notifs/internal'
import type { StreamHandle } from './stream-handle.js'

export function added(stream: StreamHandle): StreamAdded {
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

export function disowned(stream: StreamHandle, reason: DisownReason): StreamDisowned {
  return Object.freeze({
    type: 'StreamDisowned',
    payload: payloadOf(stream),
    get additionalInfo() {
      return stream.additionalInfo
    },
    reason,
  })
}

/** What is said in StreamExpired; Info may be read only when somebody looks at it. */
export interface ExpiredFacts extends Pick<StreamExpired, 'payload' | 'previousOwner'> {
  readonly message: LbsMessage
}

export function expired({ message, payload, previousOwner }: ExpiredFacts): StreamExpired {
  return Object.freeze({
    type: 'StreamExpired',
    payload: payloadOf(payload),
    // Frozen when somebody looks at it, as an owned stream's is.
    get additionalInfo(): JsonObject {
      return freezeJson(message.info ?? {})
    },
    previousOwner,
  })
}

function payloadOf({ dataStreamName, idInLbs }: LbsInfo): LbsInfo {
  return Object.freeze({ dataStreamName, idInLbs })
}
