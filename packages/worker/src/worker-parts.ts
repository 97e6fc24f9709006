/** Builds the parts of a worker and connects them. */
import { RedisStreamClient } from '@redis-stream-client/client'
import {
  Connection,
  GREATEST_TIMER_MS,
  infoOf,
  messageOf,
  type RedisLike,
  type SafeLogger,
} from '@redis-stream-client/client/internal'
import { Breaker, type BreakerState, RateLimit } from '@redis-stream-client/handling'
import type { Logger } from 'pino'
import type { WorkerMiddleware } from './contract/record-context.js'
import type { WorkerEvents } from './contract/worker-events.js'
import type { SafeWorkerRecorder } from './contract/worker-metrics.js'
import type { ResolvedWorkerOptions, WorkerOptions } from './contract/worker-options.js'
import { StreamEndings } from './ending/stream-endings.js'
import { DeadLetterCalls } from './failing/dead-letter-calls.js'
import { RecordCrashes } from './failing/record-crashes.js'
import { RecordFailures } from './failing/record-failures.js'
import { Pauses } from './handling/pauses.js'
import { Scheduler } from './handling/scheduler.js'
import { SlowHandlers } from './handling/slow-handlers.js'
import { Turns } from './handling/turns.js'
import { OwnedRuns } from './owned-runs.js'
import { RecordProducer } from './producing/record-producer.js'
import type { StreamRun } from './progress/stream-run.js'
import { Trimmer } from './progress/trimmer.js'
import type { BatchFill } from './reading/batch-gate.js'
import type { BufferUse } from './reading/record-buffer.js'
import { StreamReader } from './reading/stream-reader.js'
import type { WorkerKeys } from './redis/worker-keys.js'
import { WorkerScripts } from './redis/worker-scripts.js'
import { LagMonitor } from './watching/lag-monitor.js'
import { LostRecords } from './watching/lost-records.js'
import type { WorkerConnectionProblem } from './watching/worker-status.js'

export interface PartsContext {
  readonly redis: RedisLike
  readonly client: RedisStreamClient
  readonly options: ResolvedWorkerOptions
  readonly keys: WorkerKeys
  readonly recorder: SafeWorkerRecorder
  readonly logger: SafeLogger
  readonly emit: <Name extends keyof WorkerEvents>(
    event: Name,
    payload: Parameters<WorkerEvents[Name]>[0],
  ) => void
  /** Around each call of the handler. It may grow. */
  readonly middleware: readonly WorkerMiddleware[]
  /** True when the worker is closing: no record begins any more. */
  readonly isClosing: () => boolean
  /** Aborts when the last stream has been left. */
  readonly signal: AbortSignal
}

/** A tenth of a second on a link of 100 Mbit/s. */
const GREATEST_READ_BYTES = 1024 * 1024
const COMMAND_TIMEOUT_MS = 2000
/** Time for the last commits and the handover, after the time of the handlers is over. */
const LAST_COMMITS_MS = 2000

/** The client underneath. */
export function makeClient(
  redis: RedisLike,
  service: string,
  options: ResolvedWorkerOptions,
  { client, logger }: Pick<WorkerOptions, 'client'> & { logger: Logger },
): RedisStreamClient {
  return new RedisStreamClient(redis, service, {
    ...client,
    claimMode: 'auto',
    maxOwnedStreams: options.maxOwnedStreams,
    closeTimeoutMs: Math.min(options.drainMs + options.abandonAfterMs + LAST_COMMITS_MS, GREATEST_TIMER_MS),
    logger,
  })
}

export class WorkerParts {
  readonly commands: Connection
  readonly scripts: WorkerScripts
  readonly readers: readonly StreamReader[]
  readonly breaker: Breaker | null
  readonly rateLimit: RateLimit | null
  readonly scheduler: Scheduler
  readonly letterCalls: DeadLetterCalls | null
  readonly pauses: Pauses
  readonly runs: OwnedRuns
  readonly lag: LagMonitor
  readonly bufferUse: BufferUse = { records: 0, bytes: 0 }
  readonly #context: PartsContext
  readonly #slowHandlers: SlowHandlers
  readonly #crashes: RecordCrashes

  constructor(context: PartsContext) {
    this.#context = context
    const { keys, logger, options, recorder } = context
    this.#slowHandlers = new SlowHandlers({ warnAfterMs: options.warnAfterMs, logger })
    this.commands = new Connection(context.redis, {
      name: this.#connectionName('worker'),
      commandTimeoutMs: COMMAND_TIMEOUT_MS,
    })
    this.readers = Array.from({ length: options.readConnections }, (_, index) => this.#makeReader(index))
    const scripts = new WorkerScripts(this.commands, keys)
    this.scripts = scripts
    this.breaker = this.#makeBreaker()
    this.rateLimit = this.#makeRateLimit()
    this.letterCalls = this.#makeLetterCalls()
    this.pauses = new Pauses(context)
    this.#crashes = new RecordCrashes(options)
    this.runs = this.#makeRuns(scripts)
    const turns = this.#makeTurns()
    this.scheduler = new Scheduler({
      concurrency: options.concurrency,
      turn: (run) => turns.take(run),
      mayStart: () => !context.isClosing() && (this.breaker?.mayStart ?? true),
    })
    const runs = (): Iterable<StreamRun> => this.runs.all.values()
    this.lag = new LagMonitor({
      scripts,
      lostRecords: new LostRecords(context),
      runs,
      intervalMs: options.lagIntervalMs,
      recorder,
      logger,
    })
  }

  /** The problems of the worker's own connections. */
  get connectionProblems(): WorkerConnectionProblem[] {
    const problems = [
      { connection: 'worker' as const, problem: this.commands.problem },
      ...this.readers.map(({ problem }, index) => ({ connection: `reader-${index}` as const, problem })),
    ]
    return problems.flatMap(({ connection, problem }) => (problem === null ? [] : { connection, ...problem }))
  }

  #connectionName(role: string): string {
    return `${this.#context.keys.service}:${this.#context.client.id}:${role}`
  }

  #makeReader(index: number): StreamReader {
    const { client, keys, logger, options, redis } = this.#context
    return new StreamReader({
      template: redis,
      connectionName: this.#connectionName(`reader-${index}`),
      commands: this.commands,
      wakeKey: keys.wake(client.id, index),
      readCount: options.readCount,
      bufferUse: this.bufferUse,
      greatestBufferUse: { records: options.maxBufferedRecords, bytes: options.maxBufferedBytes },
      greatestRead: {
        records: Math.ceil(options.maxBufferedRecords / options.readConnections),
        bytes: readBytes(options),
      },
      logger,
      onUnreadable: (target, error) => this.runs.onUnreadable(target, error),
    })
  }

  #makeBreaker(): Breaker | null {
    const { emit, logger, options, recorder } = this.#context
    if (options.circuitBreaker === null) return null
    const onChange = (state: BreakerState): void => {
      recorder.breaker({ state })
      logger.warn({ state }, 'the circuit breaker has changed its state')
      emit('breaker', { state })
      // In half-open the first record is the probe, and the others wait for its outcome.
      this.scheduler.pump()
    }
    return new Breaker(options.circuitBreaker, onChange, (error) =>
      logger.error(
        { error: messageOf(error) },
        'circuitBreaker.isFailure has not answered, the default decides',
      ),
    )
  }

  #makeRuns(scripts: WorkerScripts): OwnedRuns {
    const { keys, logger, options, recorder, signal } = this.#context
    const trimmer = new Trimmer(scripts, logger)
    const endings = new StreamEndings({
      scripts,
      onDone: options.onDone,
      logger,
      signal,
      announce: async (stream) => {
        // Over our own connection: the caller's may be closed, or not even open, and has no deadline.
        await this.commands.run((redis) =>
          new RecordProducer(redis, keys.service).announce(stream.dataStreamName, infoOf(stream)),
        )
      },
      onEnd: (run, how) => this.runs.ended(run, how),
    })
    return new OwnedRuns({
      ...this.#context,
      ...options,
      scripts,
      readers: this.readers,
      endings,
      pauses: this.pauses,
      crashes: this.#crashes,
      lookFirst: (run) => this.lag.lookFirst(run),
      slowHandlers: this.#slowHandlers,
      run: {
        bufferUse: this.bufferUse,
        readCount: options.readCount,
        values: options.values,
        batchFill: batchFill(options),
        fullBytes: 2 * readBytes(options),
        nowMs: () => performance.now(),
        onReady: (run) => this.scheduler.offer(run),
        onCommitted: (run, facts) => {
          recorder.committed(facts)
          if (options.trim === 'committed') this.runs.track(trimmer.trim(run))
        },
      },
    })
  }

  #makeTurns(): Turns {
    const { client, keys, logger, options } = this.#context
    const failures = new RecordFailures({
      ...this.#context,
      ...options,
      deadRecordsKey: keys.deadRecords,
      clientId: client.id,
      onBuried: () => this.letterCalls?.notice(),
      onHalted: (run, reason, error) => this.runs.announceHalt(run, reason, error),
    })
    return new Turns({
      ...this.#context,
      failures,
      crashes: this.#crashes,
      breaker: this.breaker,
      slowHandlers: this.#slowHandlers,
      rateLimit: this.rateLimit,
      logOf: (run, record) => withFacts(logger, { dataStreamName: run.name, record: record.id }),
      onLastDone: (run) => this.runs.finish(run, true),
      onLost: (run) => this.runs.lose(run),
    })
  }

  #makeLetterCalls(): DeadLetterCalls | null {
    const { keys, options } = this.#context
    const { onDeadLetter } = options
    if (onDeadLetter === null) return null
    return new DeadLetterCalls({
      ...this.#context,
      ...options,
      onDeadLetter,
      retry: options.deadLetterRetry,
      connection: this.commands,
      key: keys.deadRecords,
      group: keys.deadRecordsGroup,
    })
  }

  #makeRateLimit(): RateLimit | null {
    const { emit, keys, logger, options, recorder } = this.#context
    if (options.rateLimit === null) return null
    return new RateLimit({
      options: options.rateLimit,
      connection: this.commands,
      key: keys.rateLimit,
      logger,
      onWait: (event) => {
        recorder.rateLimited(event)
        emit('rateLimited', event)
      },
    })
  }
}

/** What one read is to bring at most. */
/** Null if records do not wait for a batch to fill. */
function batchFill({ batchBytes, batchSize, batchWaitMs }: ResolvedWorkerOptions): BatchFill | null {
  return batchWaitMs === 0 ? null : { records: batchSize, bytes: batchBytes, waitMs: batchWaitMs }
}

function readBytes({ maxBufferedBytes, readConnections }: ResolvedWorkerOptions): number {
  return Math.min(GREATEST_READ_BYTES, Math.ceil(maxBufferedBytes / (8 * readConnections)))
}

function withFacts(logger: SafeLogger, facts: object): SafeLogger {
  return {
    debug: (more, message) => logger.debug({ ...facts, ...more }, message),
    info: (more, message) => logger.info({ ...facts, ...more }, message),
    warn: (more, message) => logger.warn({ ...facts, ...more }, message),
    error: (more, message) => logger.error({ ...facts, ...more }, message),
  }
}
