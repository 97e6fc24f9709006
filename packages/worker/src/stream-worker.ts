/**
 * The worker: takes data streams of a service and hands their records to a handler.
 *
 *   new ── run ──> running ── abort, close, client ended ──> closing ──> closed
 *   new ── close ──> closed
 *
 * What it consists of: the client owns streams; a StreamRun keeps what was read, handled and committed of each; a few
 * StreamReaders read them all; the Scheduler gives each its Turns; StreamEndings leave them.
 */
import { type OwnedStream, RedisStreamClient, StreamClientError } from '@redis-stream-client/client'
import {
  Connection,
  defaultLogger,
  guardLogger,
  isCluster,
  messageOf,
  type RedisLike,
  type SafeLogger,
} from '@redis-stream-client/client/internal'
import type { Notification, StreamTerminated } from '@redis-stream-client/notifs'
import { SafeEmitter } from '@redis-stream-client/notifs/internal'
import { Breaker } from './breaker.js'
import { DeadLetters } from './dead-letters.js'
import { LagMonitor } from './lag-monitor.js'
import { OwnedRuns } from './owned-runs.js'
import { RateLimit } from './rate-limit.js'
import type { BufferUse } from './record-buffer.js'
import { RecordFailures } from './record-failures.js'
import { RecordProducer } from './record-producer.js'
import { WorkerScripts } from './redis/worker-scripts.js'
import { Scheduler } from './scheduler.js'
import { StreamEndings } from './stream-endings.js'
import { StreamReader } from './stream-reader.js'
import { Trimmer } from './trimmer.js'
import { Turns } from './turns.js'
import { WorkerError } from './worker-error.js'
import type { WorkerEvents } from './worker-events.js'
import { resolveWorkerKeys, sharesHashTag, type WorkerKeys } from './worker-keys.js'
import { type BreakerState, guardWorkerRecorder, type SafeWorkerRecorder } from './worker-metrics.js'
import { type ResolvedWorkerOptions, resolveWorkerOptions, type WorkerOptions } from './worker-options.js'
import { describeRun, type WorkerStatus } from './worker-status.js'

const CONNECT_TIMEOUT_MS = 5000
const COMMAND_TIMEOUT_MS = 2000
/** For the last commits and the handover, after the handlers have had their time. */
const LAST_COMMITS_MS = 2000

type Phase = 'new' | 'running' | 'closing'

export class StreamWorker extends SafeEmitter<WorkerEvents> implements AsyncDisposable {
  /** Records that could not be handled: look at them, try them again, drop them. */
  readonly deadLetters: DeadLetters
  readonly #redis: RedisLike
  readonly #options: ResolvedWorkerOptions
  readonly #keys: WorkerKeys
  readonly #logger: SafeLogger
  readonly #recorder: SafeWorkerRecorder
  readonly #client: RedisStreamClient
  readonly #commands: Connection
  readonly #readers: readonly StreamReader[]
  readonly #breaker: Breaker | null
  readonly #scheduler: Scheduler
  readonly #runs: OwnedRuns
  readonly #lag: LagMonitor
  readonly #bufferUse: BufferUse = { records: 0 }
  /** Aborts when the last stream has been left. */
  readonly #stop = new AbortController()
  #phase: Phase = 'new'
  #running: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined

  /**
   * A worker of a service, not connected yet. `redis` tells where the server is and how to log in; the worker makes
   * its own connections.
   *
   * @throws StreamClientError SERVICE_NAME_INVALID, OPTION_INVALID, CONSUMER_ID_MISSING.
   */
  constructor(redis: RedisLike, service: string, options: WorkerOptions) {
    const resolved = resolveWorkerOptions(options)
    const logger = options.logger ?? defaultLogger()
    super({
      onListenerError: (error, event) =>
        this.#logger.error({ event, error: messageOf(error) }, 'a listener has thrown'),
    })
    this.#redis = redis
    this.#options = resolved
    this.#keys = resolveWorkerKeys(service, { onCluster: isCluster(redis) })
    this.#client = new RedisStreamClient(redis, service, {
      ...options.client,
      claimMode: 'auto',
      maxOwnedStreams: resolved.maxOwnedStreams,
      closeTimeoutMs: resolved.drainMs + resolved.abandonAfterMs + LAST_COMMITS_MS,
      logger,
    })
    this.#logger = guardLogger(logger, { service, client: this.#client.id })
    this.#recorder = guardWorkerRecorder(options.metrics, (error) =>
      this.#logger.error({ error: messageOf(error) }, 'the metrics recorder has thrown'),
    )
    this.deadLetters = new DeadLetters(redis, service)
    this.#commands = new Connection(redis, {
      name: this.#name('worker'),
      commandTimeoutMs: COMMAND_TIMEOUT_MS,
    })
    this.#readers = Array.from({ length: resolved.readConnections }, (_, index) => this.#makeReader(index))
    this.#breaker =
      resolved.circuitBreaker === null
        ? null
        : new Breaker(resolved.circuitBreaker, (state) => this.#onBreaker(state))
    const scripts = new WorkerScripts(this.#commands, this.#keys)
    this.#runs = this.#makeRuns(scripts)
    const turns = this.#makeTurns()
    this.#scheduler = new Scheduler({
      concurrency: resolved.concurrency,
      turn: (run) => turns.take(run),
      mayStart: () => this.#breaker?.mayStart ?? true,
    })
    this.#lag = new LagMonitor({
      scripts,
      runs: () => this.#runs.all.values(),
      intervalMs: resolved.lagIntervalMs,
      recorder: this.#recorder,
      logger: this.#logger,
    })
    this.#client.on('error', (error) => this.emit('error', error))
  }

  /** `redis-consumer-<POD_NAME>`. */
  get id(): string {
    return this.#client.id
  }

  /**
   * Works until the signal aborts or `close` is called, and then until the worker has closed (see `close`).
   *
   * Resolves when it has, also if that was while it started. Rejects with CONSUMER_ID_IN_USE, REDIS_UNSUPPORTED, REDIS_ERROR when it cannot start or
   * the client underneath gives up; with CLOSED after `close` and when called again.
   */
  async run(options: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    const { signal } = options
    if (this.#phase !== 'new') {
      throw new StreamClientError('CLOSED', this.#closing ? 'the worker is closed' : 'run was called before')
    }
    if (signal?.aborted) {
      await this.close()
      throw new StreamClientError('CLOSED', 'the signal given to run is aborted', { cause: signal.reason })
    }
    this.#phase = 'running'
    const onAbort = (): void => void this.close()
    signal?.addEventListener('abort', onAbort, { once: true })
    const running = this.#work()
    this.#running = running.catch(() => undefined) // run rejects with it
    try {
      await running
    } finally {
      signal?.removeEventListener('abort', onAbort)
      await this.close()
    }
  }

  /**
   * For deploys: no record begins any more, running handlers get `drainMs`, positions are committed, streams are
   * handed over, each as soon as it is free. Resolves when all that is done, at the latest `drainMs`,
   * `abandonAfterMs` and some seconds later. Never rejects. Safe twice, and before `run`.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** `await using`: as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** What this worker does now, with the lag of its streams. Never rejects: without Redis, lag is null. */
  async status(): Promise<WorkerStatus> {
    const runs = [...this.#runs.all.values()]
    const lags = await this.#lag.measure(runs)
    return {
      client: this.#client.health(),
      breaker: this.#breaker?.state ?? 'off',
      running: this.#scheduler.running,
      waiting: this.#scheduler.waiting,
      buffered: this.#bufferUse.records,
      readers: this.#readers.map((reader) => reader.status),
      streams: runs.map((run) => describeRun(run, lags.get(run) ?? null)),
    }
  }

  /**
   * Lets a halted stream go on: with the record it was halted at, which gets all its attempts again, or, with
   * `skip`, with the one after it.
   *
   * Resolves when that is committed. Rejects with STREAM_NOT_OWNED (ask the worker that owns it), STREAM_NOT_HALTED,
   * SESSION_LOST, REDIS_ERROR.
   */
  async resume(dataStreamName: string, { skip = false }: { skip?: boolean } = {}): Promise<void> {
    const run = this.#runs.all.get(dataStreamName)
    if (run === undefined) {
      throw new StreamClientError('STREAM_NOT_OWNED', `this worker does not own ${dataStreamName}`, {
        dataStreamName,
      })
    }
    if (run.state !== 'halted') {
      throw new WorkerError('STREAM_NOT_HALTED', `${dataStreamName} is not halted but ${run.state}`)
    }
    this.#runs.resume(run, skip)
    await run.commit()
    this.emit('streamResumed', { dataStreamName })
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop
    const notifications = await this.#start()
    if (notifications === null) return
    const agents = [...this.#readers, this.#lag].map((agent) => agent.run(signal))
    agents.push(this.#runs.watch(signal))
    let terminated: StreamTerminated | null = null
    for await (const notification of notifications) {
      if (notification.type === 'StreamAdded') this.#add(notification.stream)
      else if (notification.type === 'StreamTerminated') terminated = notification
      // A stream that is disowned says so by its signal; nothing expires for a client that claims by itself.
    }
    this.#stop.abort()
    await Promise.all(agents)
    await this.#runs.settled()
    if (terminated?.error !== undefined) throw terminated.error
  }

  /** Null if the worker was told to leave meanwhile: that is no error of the start. */
  async #start(): Promise<AsyncIterable<Notification> | null> {
    const { signal } = this.#stop
    try {
      await Promise.all([
        this.#commands.open(CONNECT_TIMEOUT_MS, signal),
        ...this.#readers.map((reader) => reader.open(CONNECT_TIMEOUT_MS, signal)),
      ])
      return await this.#client.init()
    } catch (error) {
      if (this.#closing !== undefined) return null
      throw error
    }
  }

  #add(stream: OwnedStream): void {
    const { service } = this.#keys
    if (isCluster(this.#redis) && !sharesHashTag(service, stream.dataStreamName)) {
      const problem = `on Redis Cluster a data stream needs the hash tag of its service ${service}`
      this.#logger.error({ dataStreamName: stream.dataStreamName }, problem)
      this.emit('error', new WorkerError('STREAM_UNREADABLE', `${stream.dataStreamName}: ${problem}`))
      return
    }
    this.#runs.add(stream)
  }

  async #close(): Promise<void> {
    const wasNew = this.#phase === 'new'
    this.#phase = 'closing'
    const closing = new StreamClientError('CLOSED', 'the worker is closing')
    const drain = setTimeout(() => {
      for (const run of this.#runs.all.values()) run.attempt?.abort('drain', closing)
    }, this.#options.drainMs)
    await this.#client.close()
    clearTimeout(drain)
    this.#stop.abort()
    if (!wasNew) await this.#running
    this.#breaker?.stop()
    await this.#removeWakeKeys()
    for (const connection of [this.#commands, ...this.#readers]) connection.close()
  }

  async #removeWakeKeys(): Promise<void> {
    if (this.#commands.status !== 'ready') return
    const keys = this.#readers.map((_, index) => this.#keys.wake(this.id, index))
    try {
      await this.#commands.run((redis) => redis.unlink(...keys))
    } catch (error) {
      this.#logger.debug({ error: messageOf(error) }, 'the wake keys were not removed, they expire')
    }
  }

  #onBreaker(state: BreakerState): void {
    this.#recorder.breaker({ state })
    this.#logger.warn({ state }, 'the circuit breaker has changed its state')
    this.emit('breaker', { state })
    // In half-open the first of these probes, and the others wait for what comes of it.
    this.#scheduler.pump()
  }

  #name(role: string): string {
    return `${this.#keys.service}:${this.#client.id}:${role}`
  }

  #makeReader(index: number): StreamReader {
    return new StreamReader({
      template: this.#redis,
      connectionName: this.#name(`reader-${index}`),
      commands: this.#commands,
      wakeKey: this.#keys.wake(this.#client.id, index),
      readCount: this.#options.readCount,
      bufferUse: this.#bufferUse,
      greatestBufferUse: this.#options.maxBufferedRecords,
      greatestRead: Math.ceil(this.#options.maxBufferedRecords / this.#options.readConnections),
      logger: this.#logger,
      onUnreadable: (target, error) => this.#runs.haltUnreadable(target, error),
    })
  }

  #makeRuns(scripts: WorkerScripts): OwnedRuns {
    const producer = new RecordProducer(this.#redis, this.#keys.service)
    const trimmer = new Trimmer(scripts, this.#logger)
    const endings = new StreamEndings({
      scripts,
      onDone: this.#options.onDone,
      logger: this.#logger,
      signal: this.#stop.signal,
      announce: async (stream) => {
        await producer.announce(stream.dataStreamName, stream.additionalInfo)
      },
      onEnd: (run, how) => this.#runs.ended(run, how),
    })
    return new OwnedRuns({
      ...this.#options,
      scripts,
      readers: this.#readers,
      endings,
      recorder: this.#recorder,
      logger: this.#logger,
      emit: (event, payload) => {
        this.emit(event, ...([payload] as never))
      },
      run: {
        bufferUse: this.#bufferUse,
        readCount: this.#options.readCount,
        nowMs: () => performance.now(),
        onReady: (run) => this.#scheduler.offer(run),
        onCommitted: (run, facts) => {
          this.#recorder.committed(facts)
          if (this.#options.trim === 'committed') this.#runs.track(trimmer.trim(run))
        },
      },
    })
  }

  #makeTurns(): Turns {
    const { deadRecords, ratePrefix } = this.#keys
    const shared = { recorder: this.#recorder, logger: this.#logger }
    const emit = (event: keyof WorkerEvents, payload: unknown): void => {
      this.emit(event, ...([payload] as never))
    }
    const failures = new RecordFailures({
      ...this.#options,
      ...shared,
      deadRecordsKey: deadRecords,
      clientId: this.#client.id,
      emit,
      onHalted: (run, reason, error) => this.#runs.announceHalt(run, reason, error),
    })
    const { rateLimit } = this.#options
    return new Turns({
      ...shared,
      options: this.#options,
      failures,
      breaker: this.#breaker,
      rateLimit:
        rateLimit === null
          ? null
          : new RateLimit({
              options: rateLimit,
              connection: this.#commands,
              keyPrefix: ratePrefix,
              signal: this.#stop.signal,
              logger: this.#logger,
              onWait: (event) => {
                this.#recorder.rateLimited(event)
                this.emit('rateLimited', event)
              },
            }),
      logOf: (run, record) => withFacts(this.#logger, { dataStreamName: run.name, record: record.id }),
      emit,
      onLastDone: (run) => this.#runs.finish(run, true),
      onLost: (run) => this.#runs.lose(run),
    })
  }
}

function withFacts(logger: SafeLogger, facts: object): SafeLogger {
  return {
    debug: (more, message) => logger.debug({ ...facts, ...more }, message),
    info: (more, message) => logger.info({ ...facts, ...more }, message),
    warn: (more, message) => logger.warn({ ...facts, ...more }, message),
    error: (more, message) => logger.error({ ...facts, ...more }, message),
  }
}
