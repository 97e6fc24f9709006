/**
 * The way of one stream's records through the handler, without a client and without Redis: for tests of handlers. Turns,
 * attempts, failures and what is committed when are those of the worker. What would be read and written is given.
 */
import type { OwnedStream } from '@redis-stream-client/client'
import { type Fence, guardLogger, type SafeLogger } from '@redis-stream-client/client/internal'
import type { RawRecord } from '@redis-stream-client/handling'
import type { WorkerMiddleware } from './contract/record-context.js'
import type { WorkerEvents } from './contract/worker-events.js'
import { guardWorkerRecorder, type HandledOutcome } from './contract/worker-metrics.js'
import { resolveWorkerOptions, type WorkerOptions } from './contract/worker-options.js'
import { RecordCrashes } from './failing/record-crashes.js'
import { RecordFailures } from './failing/record-failures.js'
import { SlowHandlers } from './handling/slow-handlers.js'
import { Turns } from './handling/turns.js'
import { CheckpointWriter } from './progress/checkpoint-writer.js'
import { type RunState, StreamRun } from './progress/stream-run.js'
import { decodeCheckpoint } from './progress/worker-checkpoint.js'
import type { ScriptCommand, TransactAnswer } from './redis/worker-scripts.js'

export interface HandlerRunContext {
  readonly options: WorkerOptions
  readonly middleware: readonly WorkerMiddleware[]
  readonly stream: OwnedStream
  readonly fence: Fence
  /** At most so many records after a position. */
  readonly read: (after: string, count: number) => readonly RawRecord[]
  /** Executes what a handler's transaction has queued, and keeps the checkpoint. */
  readonly transact: (commands: readonly ScriptCommand[], checkpoint: string) => Promise<TransactAnswer>
  readonly emit: <Name extends keyof WorkerEvents>(
    event: Name,
    payload: Parameters<WorkerEvents[Name]>[0],
  ) => void
  readonly onHandled: (outcome: HandledOutcome) => void
  /** Aborts when no record is to begin any more, as `close` of a worker has it. */
  readonly signal: AbortSignal | undefined
}

export interface HandlerRunResult {
  /** Up to and including this id every record is done with. */
  readonly position: string
  /** `active`: all records are done with; `halted`: one is not, and the stream waits; `ended`: ownership is over. */
  readonly state: RunState
  /** True if the handler or `isLast` has said that nothing comes after the last record. */
  readonly isFinished: boolean
}

const CLIENT_ID = 'redis-consumer-test'
const DEAD_RECORDS = 'dead-records'
const SILENT: SafeLogger = { debug: ignore, info: ignore, warn: ignore, error: ignore }

/**
 * Hands the records to the handler until all are done with, the stream is halted or finished, ownership ends or the signal
 * aborts, then commits. Delays before the next attempt are reported and not waited for. Rejects with OPTION_INVALID.
 */
export async function runAlone(context: HandlerRunContext): Promise<HandlerRunResult> {
  const options = resolveWorkerOptions(context.options)
  const { emit, stream } = context
  const logger = loggerOf(context)
  const scripts = {
    transact: (...[, , checkpoint, commands]: TransactCall) => execute(context, checkpoint, commands),
  }
  const writer = new CheckpointWriter(stream, context.fence, scripts)
  let goOn: (() => void) | undefined
  const run = new StreamRun(stream, context.fence, writer, {
    bufferUse: { records: 0, bytes: 0 },
    readCount: options.readCount,
    fullBytes: Infinity,
    values: options.values,
    batchFill: null,
    nowMs: () => performance.now(),
    startTimer: (act) => {
      goOn = act
      return undefined
    },
    onHungry: ignore,
    onReady: ignore,
    onCommitted: ignore,
  })
  const recorder = guardWorkerRecorder({ handled: ({ outcome }) => context.onHandled(outcome) }, ignore)
  const failures = new RecordFailures({
    ...options,
    ...{ recorder, logger, emit },
    deadRecordsKey: DEAD_RECORDS,
    clientId: CLIENT_ID,
    onBuried: ignore,
    onHalted: ignore,
  })
  const turns = new Turns({
    ...{ options, failures, recorder, logger, emit, crashes: new RecordCrashes(options) },
    ...{ breaker: null, rateLimit: null, middleware: context.middleware },
    isClosing: () => context.signal?.aborted === true,
    slowHandlers: new SlowHandlers({ warnAfterMs: options.warnAfterMs, logger }),
    logOf: () => logger,
    onLastDone: ignore,
    onLost: (lost) => lost.end(),
  })
  run.restore(decodeCheckpoint(stream.checkpoint))
  const stopListening = listen(run, context, options.drainMs)
  try {
    for (;;) {
      goOn?.()
      goOn = undefined
      if (run.isHungry) run.accept(run.readPosition, context.read(run.readPosition, options.readCount))
      if (!run.isRunnable) break
      run.isBusy = true
      await turns.take(run)
      run.isBusy = false
      run.settle()
    }
    if (stream.owned) await run.commit().catch((error: unknown) => emit('error', error as Error))
    return { position: run.position, state: run.state, isFinished: run.isLastDone }
  } finally {
    stopListening()
    run.end()
  }
}

type TransactCall = [fence: Fence, number: number, checkpoint: string, commands: readonly ScriptCommand[]]

/** A dead letter is told by an event; nothing but the checkpoint is kept of it. */
async function execute(
  { stream, transact }: HandlerRunContext,
  checkpoint: string,
  commands: readonly ScriptCommand[],
): Promise<TransactAnswer> {
  if (!stream.owned) return { status: 'NOT_OWNED' }
  const isDeadLetter = commands.some(({ keys }) => keys.includes(DEAD_RECORDS))
  return await transact(isDeadLetter ? [] : commands, checkpoint)
}

/** What happens to a handler when its stream is lost, or the worker closes. */
function listen(run: StreamRun, { signal, stream }: HandlerRunContext, drainMs: number): () => void {
  let drain: NodeJS.Timeout | undefined
  const onAbort = (): void => {
    const { reason } = signal?.aborted ? signal : stream.signal
    if (!stream.owned) {
      run.attempt?.abort('lost', reason as Error)
      run.end()
    } else if (run.beginEnding()) {
      drain = setTimeout(() => run.attempt?.abort('drain', reason as Error), drainMs)
    }
  }
  const signals = signal === undefined ? [stream.signal] : [stream.signal, signal]
  for (const each of signals) each.addEventListener('abort', onAbort)
  if (signals.some(({ aborted }) => aborted)) onAbort()
  return () => {
    clearTimeout(drain)
    for (const each of signals) each.removeEventListener('abort', onAbort)
  }
}

function loggerOf({ options, stream }: HandlerRunContext): SafeLogger {
  if (options.logger === undefined) return SILENT
  return guardLogger(options.logger, { client: CLIENT_ID, dataStreamName: stream.dataStreamName })
}

function ignore(): void {}
