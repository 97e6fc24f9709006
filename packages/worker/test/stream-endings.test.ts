/** Endings that meet: an idle stream whose end is called off while the worker closes. */
import type { OwnedStream } from '@redis-stream-client/client'
import { expect, test } from 'vitest'
import type { CheckpointWriter, Draft } from '../src/checkpoint-writer.js'
import type { WorkerScripts } from '../src/redis/worker-scripts.js'
import { StreamEndings } from '../src/stream-endings.js'
import { StreamRun } from '../src/stream-run.js'

test('an end that is called off while the worker closes hands the stream over', async () => {
  const calls: string[] = []
  const closing = new AbortController()
  const stream = {
    dataStreamName: 's',
    idInLbs: '1-0',
    owned: true,
    signal: closing.signal,
    release: async () => void calls.push('release'),
    done: async () => void calls.push('done'),
  } as unknown as OwnedStream
  const writer = {
    save: async (draft: () => Draft | null) => draft()?.stored(),
  } as unknown as CheckpointWriter
  const run = new StreamRun(stream, {} as never, writer, {
    bufferUse: { records: 0 },
    readCount: 100,
    nowMs: () => performance.now(),
    onHungry: () => calls.push('hungry'),
    onReady: () => undefined,
    onCommitted: () => undefined,
  })
  const endings = new StreamEndings({
    scripts: {
      lag: async () => {
        closing.abort() // the worker is told to close while Redis is asked
        void endings.release(run)
        return [{ records: 1, lastId: '5-0' }]
      },
    } as unknown as WorkerScripts,
    onDone: 'keep',
    logger: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
    signal: new AbortController().signal,
    announce: async () => void calls.push('announce'),
    onEnd: (ended, how) => {
      calls.push(how)
      ended.end()
    },
  })
  await endings.finish(run, false)
  expect(run.state).toBe('ended')
  expect(calls.filter((call) => call !== 'hungry')).toEqual(['release', 'released'])
})
