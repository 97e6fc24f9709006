/** What the application hears of a stream that ends before its time. */
import { NotificationBroker } from '@redis-stream-client/notifs'
import { expect, it } from 'vitest'
import { systemClock } from '../src/decisions/clock.js'
import { guardRecorder } from '../src/metrics.js'
import { Deliveries } from '../src/ownership/deliveries.js'
import { Ownership } from '../src/ownership/ownership.js'
import { StreamHandle, type StreamOperations } from '../src/ownership/stream-handle.js'
import type { Session } from '../src/session/session.js'
import { silentLogger } from './support/silent-logger.js'

const session = {
  isHeld: () => true,
  signal: new AbortController().signal,
  trust: { signals: 0 },
} as unknown as Session
const unanswered = (): Promise<void> => new Promise(() => undefined)
const operations: StreamOperations = { commit: unanswered, finish: unanswered, release: unanswered }

function handle(idInLbs: string, calls = operations): StreamHandle {
  const facts = {
    dataStreamName: 's',
    idInLbs,
    fencingToken: 1,
    message: { dataStreamName: 's' },
    checkpoint: null,
  }
  return new StreamHandle({ ...facts, recovered: false, commits: 0, takenAtMs: 0 }, session, calls)
}

async function notificationsAfter(call: (stream: StreamHandle) => unknown): Promise<string[]> {
  const broker = new NotificationBroker()
  const ownership = new Ownership({
    broker,
    maxOwnedStreams: Number.POSITIVE_INFINITY,
    clock: systemClock,
    recorder: guardRecorder(undefined, () => undefined),
    logger: silentLogger,
  })
  const earlier = handle('1-1')
  ownership.add(earlier)
  void call(earlier)
  ownership.add(handle('2-1'))
  expect(earlier.owned).toBe(false)
  broker.close()
  const heard: string[] = []
  for await (const { type } of broker) heard.push(type)
  return heard
}

it('an owner whose commit is under way is told that it has lost the stream', async () => {
  expect(await notificationsAfter((stream) => stream.commit('c'))).toEqual(['StreamDisowned'])
})

it('an owner that is finishing the stream or giving it back has ended ownership itself', async () => {
  expect(await notificationsAfter((stream) => stream.done())).toEqual([])
  expect(await notificationsAfter((stream) => stream.release())).toEqual([])
})

it('a stream is not owned any more from the moment it is let go, for somebody else may have it', () => {
  for (const letGo of ['done', 'release'] as const) {
    const stream = handle('1-1')
    void stream[letGo]()
    expect(stream.owned).toBe(false)
    expect(stream.signal.aborted).toBe(false)
  }
})

it('a stream that Redis did not let go is owned again', async () => {
  const refuse = (): Promise<void> => Promise.reject(new Error('refused'))
  const stream = handle('1-1', { ...operations, release: refuse })
  const released = stream.release()
  expect(stream.owned).toBe(false)
  await expect(released).rejects.toThrow('refused')
  expect(stream.owned).toBe(true)
})

it('a stream that has ended before its turn is not announced any more', async () => {
  const broker = new NotificationBroker()
  const deliveries = new Deliveries(
    broker,
    systemClock,
    guardRecorder(undefined, () => undefined),
  )
  const stream = handle('1-1')
  stream.end('entry-gone')
  await deliveries.streamAdded(stream, new AbortController().signal)
  broker.close()
  const heard: string[] = []
  for await (const { type } of broker) heard.push(type)
  expect(heard).toEqual([])
})
