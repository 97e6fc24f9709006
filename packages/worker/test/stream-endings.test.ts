/** Endings that meet: an idle stream whose end is called off while the worker closes, or that gets a record meanwhile. */
import type { OwnedStream } from '@redis-stream-client/client'
import { beforeEach, describe, expect, test } from 'vitest'
import { StreamEndings, type StreamEndingsContext } from '../src/ending/stream-endings.js'
import type { CheckpointWriter, Draft } from '../src/progress/checkpoint-writer.js'
import { StreamRun } from '../src/progress/stream-run.js'
import type { WorkerScripts } from '../src/redis/worker-scripts.js'

let calls: string[]
let closing: AbortController
let run: StreamRun

beforeEach(() => {
  calls = []
  closing = new AbortController()
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
  run = new StreamRun(stream, {} as never, writer, {
    bufferUse: { records: 0, bytes: 0 },
    readCount: 100,
    values: null,
    batchFill: null,
    fullBytes: 1_000_000,
    nowMs: () => performance.now(),
    onHungry: () => calls.push('hungry'),
    onReady: () => undefined,
    onCommitted: () => undefined,
  })
})

/** Endings of a worker that is told of the last id of the stream, look by look. */
function endings(look: () => string | null, context: Partial<StreamEndingsContext> = {}): StreamEndings {
  const note = (_: object, message: string): void => void calls.push(message)
  return new StreamEndings({
    scripts: {
      look: async () => [{ lastId: look() }],
      forgetAnnounced: async () => undefined,
    } as unknown as WorkerScripts,
    onDone: 'keep',
    logger: { debug: note, info: note, warn: note, error: note },
    signal: new AbortController().signal,
    announce: async () => void calls.push('announce'),
    onEnd: (ended, how) => {
      calls.push(how)
      ended.end()
    },
    ...context,
  })
}

test('an end that is called off while the worker closes hands the stream over', async () => {
  const ending = endings(() => {
    closing.abort() // the worker is told to close while Redis is asked
    void ending.release(run)
    return '5-0'
  })
  await ending.finish(run, false)
  expect(run.state).toBe('ended')
  expect(calls.filter((call) => call !== 'hungry')).toEqual(['release', 'released'])
})

describe('a record that comes while an idle stream is being closed', () => {
  /** Nothing before the assignment is closed, one record afterwards. */
  const late = (): string | null => (calls.includes('done') ? '5-0' : null)

  test('has the stream assigned again', async () => {
    await endings(late).finish(run, false)
    expect(calls).toEqual(['done', 'finished', 'announce'])
  })

  test('is not looked for where somebody has said that the stream is finished', async () => {
    await endings(late).finish(run, true)
    expect(calls).toEqual(['done', 'finished'])
  })

  test('has it assigned again as soon as Redis lets it', async () => {
    const refusals = ['the look', 'the look', 'the announcement']
    const refuse = (what: string): void => {
      if (refusals[0] === what && calls.includes('done')) throw new Error(`${refusals.shift()} was refused`)
    }
    const ending = endings(
      () => {
        refuse('the look')
        return late()
      },
      {
        announce: async () => {
          refuse('the announcement')
          calls.push('announce')
        },
      },
    )
    await ending.finish(run, false)
    const again = 'an idle stream was closed and cannot be looked at once more, trying again'
    expect(calls).toEqual(['done', 'finished', again, again, again, 'announce'])
  })

  test('is named as lost from sight when the worker closes before Redis lets it', async () => {
    const stop = new AbortController()
    const ending = endings(late, {
      signal: stop.signal,
      announce: () => {
        stop.abort()
        return Promise.reject(new Error('refused'))
      },
    })
    await ending.finish(run, false)
    expect(calls.at(-1)).toBe('records may have come after the end of a stream: assign it to the LBS again')
  })
})
