/** The notifications about a stream, made so that no reader or listener can change what another one sees. */
import type {
  DisownReason,
  LbsInfo,
  OwnedStream,
  StreamAdded,
  StreamDisowned,
  StreamExpired,
} from '@redis-stream-client/notifs'
import { type AssignedMessage, additionalInfoOf } from '../redis/assigned-message.js'

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
  readonly message: AssignedMessage
}

export function expired({ message, payload, previousOwner }: ExpiredFacts): StreamExpired {
  return Object.freeze({
    type: 'StreamExpired',
    payload: payloadOf(payload),
    get additionalInfo() {
      return additionalInfoOf(message)
    },
    previousOwner,
  })
}

function payloadOf({ dataStreamName, idInLbs }: LbsInfo): LbsInfo {
  return Object.freeze({ dataStreamName, idInLbs })
}
