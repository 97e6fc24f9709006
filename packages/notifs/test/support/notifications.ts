/** Notifications and streams to send around; nothing stands behind them. */
import type {
  OwnedStream,
  StreamAdded,
  StreamDisowned,
  StreamExpired,
  StreamTerminated,
} from '../../src/index.js'

export function streamOf(dataStreamName: string): OwnedStream {
  return {
    dataStreamName,
    idInLbs: '1-0',
    additionalInfo: {},
    fencingToken: 1,
    checkpoint: null,
    recovered: false,
    owned: true,
    signal: new AbortController().signal,
    touch: () => undefined,
    commit: () => Promise.resolve(),
    done: () => Promise.resolve(),
    release: () => Promise.resolve(),
  }
}

export function added(dataStreamName: string, stream: OwnedStream = streamOf(dataStreamName)): StreamAdded {
  return {
    type: 'StreamAdded',
    payload: { dataStreamName, idInLbs: '1-0' },
    additionalInfo: {},
    stream,
    recovered: false,
  }
}

export function expired(dataStreamName: string): StreamExpired {
  return {
    type: 'StreamExpired',
    payload: { dataStreamName, idInLbs: '1-0' },
    additionalInfo: {},
    previousOwner: null,
  }
}

export function disowned(dataStreamName: string): StreamDisowned {
  return {
    type: 'StreamDisowned',
    payload: { dataStreamName, idInLbs: '1-0' },
    additionalInfo: {},
    reason: 'session-lost',
  }
}

export function terminated(): StreamTerminated {
  return { type: 'StreamTerminated', additionalInfo: { info: 'closed by a test' }, reason: 'closed' }
}
