/** The notifications about a stream, made so that no reader or listener can change what another one sees. */
import type {
  DisownReason,
  JsonObject,
  LbsInfo,
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

export function expired({
  additionalInfo,
  payload,
  previousOwner,
}: Omit<StreamExpired, 'type'>): StreamExpired {
  return Object.freeze({
    type: 'StreamExpired',
    payload: payloadOf(payload),
    // Frozen when somebody looks at it, as an owned stream's is.
    get additionalInfo(): JsonObject {
      return freezeJson(additionalInfo)
    },
    previousOwner,
  })
}

function payloadOf({ dataStreamName, idInLbs }: LbsInfo): LbsInfo {
  return Object.freeze({ dataStreamName, idInLbs })
}
