/** One run alone: what it takes of what was read, and how it waits. */
import type { OwnedStream } from '@redis-stream-client/client'
import { Attempt, type RawRecord, type StreamRecord } from '@redis-stream-client/handling'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { guardWorkerRecorder } from '../src/contract/worker-metrics.js'
import { RecordFailures } from '../src/failing/record-failures.js'
import { AttemptContext } from '../src/handling/attempt-context.js'
import type { CheckpointWriter, Draft } from '../src/progress/checkpoint-writer.js'
import { StreamRun } from '../src/progress/stream-run.js'
import { FRESH, type RecordFailure, type WorkerCheckpoint } from '../src/progress/worker-checkpoint.js'

const ignore = (): void => undefined
const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore }
const records = (...ids: string[]): RawRecord[] => ids.map((id) => [id, ['n', id]])

/** A run and the checkpoints that it has written. */
function start(
  checkpoint: WorkerCheckpoint = FRESH,
  writer: object = {},
): { run: StreamRun; written: WorkerCheckpoint[] } {
  const written: WorkerCheckpoint[] = []
  const save = async (draft: () => Draft | null): Promise<void> => {
    const drafted = draft()
    if (drafted === null) return
    written.push(drafted.checkpoint)
    drafted.stored()
  }
  const stream = { dataStreamName: 's', idInLbs: '9-0', touch: ignore } as unknown as OwnedStream
  const run = new StreamRun(stream, {} as never, { save, ...writer } as unknown as CheckpointWriter, {
    bufferUse: { records: 0, bytes: 0 },
    readCount: 100,
    values: null,
    batchFill: null,
    fullBytes: 1_000_000,
    nowMs: () => performance.now(),
    onHungry: () => undefined,
    onReady: () => undefined,
    onCommitted: () => undefined,
  })
  run.restore(checkpoint)
  onTestFinished(() => run.end())
  return { run, written }
}

const waiting = (run: StreamRun): string[] => run.buffer.peek(100).map(({ id }) => id)

describe('what was read', () => {
  test('is refused if it was read behind records that were forgotten meanwhile', () => {
    const { run } = start()
    run.accept('0-0', records('1-0', '2-0'))
    run.pause(60_000) // forgets both, while a read behind them is under way
    run.accept('2-0', records('3-0'))
    expect(waiting(run)).toEqual([])
    run.accept('0-0', records('1-0', '2-0', '3-0'))
    expect(waiting(run)).toEqual(['1-0', '2-0', '3-0'])
  })

  test('is refused if the handler has come to the end of it meanwhile', () => {
    const { run } = start()
    run.accept('0-0', records('1-0'))
    run.halt() // the handler is still busy with it
    run.resume(false)
    run.pass('1-0', 1, false)
    run.accept('0-0', records('1-0', '2-0'))
    expect(waiting(run)).toEqual([])
    run.accept('1-0', records('2-0'))
    expect(waiting(run)).toEqual(['2-0'])
  })
})

describe('the last record', () => {
  test('is committed together with the end of the stream, never before it', async () => {
    const { run, written } = start()
    run.accept('0-0', records('1-0', '2-0'))
    run.pass('1-0', 1, false)
    await run.commit()
    run.pass('2-0', 1, true)
    await run.commit()
    const finished = { idInLbs: '9-0', isCertain: true }
    expect(written).toMatchObject([
      { position: '1-0', finished: null },
      { position: '2-0', finished },
    ])
    expect(run.draftThrough('3-0', 1, true).checkpoint).toMatchObject({ position: '3-0', finished })
  })

  test('of an earlier assignment says nothing about this one', () => {
    const finished = { idInLbs: '8-0', isCertain: true }
    expect(start({ ...FRESH, finished }).run.isLastDone).toBe(false)
    expect(start({ ...FRESH, finished: { ...finished, idInLbs: '9-0' } }).run.isLastDone).toBe(true)
  })

  test('is not forgotten by a commit that was sent before the end was known', async () => {
    const { run, written } = start()
    const { stored } = run.draftThrough('1-0', 1, false)
    run.markFinished(true)
    stored()
    await run.commit()
    expect(written).toMatchObject([{ position: '1-0', finished: { isCertain: true } }])
  })
})

test('the end of a stream that is said while the transaction of its last record is under way is not missed', async () => {
  let answer = (): void => undefined
  const answered = new Promise<void>((resolve) => {
    answer = resolve
  })
  const transact = async (_: unknown, draft: () => Draft): Promise<unknown[]> => {
    const { stored } = draft()
    await answered
    stored()
    return []
  }
  const { run } = start(FRESH, { transact })
  run.accept('0-0', records('1-0'))
  const [record] = run.next(1) as [StreamRecord]
  const attempt = new Attempt({ records: [record], isLast: false }, 1, {
    timeoutMs: Infinity,
    abandonAfterMs: 0,
    timedOut: () => new Error('too late'),
  })
  const context = new AttemptContext(run, attempt, {
    recorder: guardWorkerRecorder(undefined, () => undefined),
    logOf: () => silent,
  })
  const transaction = context.transaction(record, (multi) => multi.incr('count'))
  await new Promise(setImmediate) // it is sent
  context.done()
  expect(run.isLastDone).toBe(false)
  answer()
  await transaction
  expect(run.isLastDone).toBe(true)
})

test('a record that has failed waits for its backoff, though Redis refuses to store that', async () => {
  const refused = new Error('refused')
  const { run } = start(FRESH, { save: () => Promise.reject(refused) })
  run.accept('0-0', records('1-0'))
  const failures = new RecordFailures({
    retry: { attempts: 5, initialDelayMs: 60_000, maxDelayMs: 60_000, factor: 1, jitter: 0 },
    onExhausted: 'skip',
    deadRecordsKey: 'dead',
    clientId: 'a',
    recorder: guardWorkerRecorder(undefined, () => undefined),
    logger: silent,
    emit: () => undefined,
    onBuried: () => undefined,
    onHalted: () => undefined,
  })
  const [record] = run.next(1) as [StreamRecord]
  await expect(failures.handle(run, record, new Error('no'), false)).rejects.toBe(refused)
  expect(run.state).toBe('retrying')
})

describe('a record that has failed under the last owner', () => {
  const failed = (failure: Partial<RecordFailure>): WorkerCheckpoint => ({
    ...FRESH,
    failure: {
      id: '1-0',
      attempts: 1,
      crashes: 0,
      isTrying: false,
      firstAtMs: 0,
      lastAtMs: Date.now(),
      dueAtMs: Date.now(),
      error: 'no',
      isLast: false,
      ...failure,
    },
  })

  test('waits for what is left of its delay', async () => {
    onTestFinished(() => void vi.useRealTimers())
    vi.useFakeTimers()
    const { run } = start(failed({ lastAtMs: Date.now() - 700, dueAtMs: Date.now() + 300 }))
    run.pauseUntilDue()
    await vi.advanceTimersByTimeAsync(299)
    expect(run.state).toBe('retrying')
    await vi.advanceTimersByTimeAsync(1)
    expect(run.state).toBe('active')
  })

  test('waits no longer than its delay, though the clock of that owner was ahead', async () => {
    onTestFinished(() => void vi.useRealTimers())
    vi.useFakeTimers()
    const aheadMs = Date.now() + 3_600_000
    const { run } = start(failed({ lastAtMs: aheadMs, dueAtMs: aheadMs + 1000 }))
    run.pauseUntilDue()
    await vi.advanceTimersByTimeAsync(1000)
    expect(run.state).toBe('active')
  })

  test('is handled alone, if attempts at it alone were counted', () => {
    for (const [attempts, expected] of [
      [1, ['1-0']],
      [0, ['1-0', '2-0']], // a batch that asked for time
    ] as const) {
      const { run } = start(failed({ attempts }))
      run.accept('0-0', records('1-0', '2-0'))
      expect(run.next(10).map(({ id }) => id)).toEqual(expected)
    }
  })

  test('does not wait if its delay is over, or was not kept', () => {
    for (const dueAtMs of [Date.now() - 1, 0]) {
      const { run } = start(failed({ lastAtMs: 0, dueAtMs }))
      run.pauseUntilDue()
      expect(run.state).toBe('active')
    }
  })
})
