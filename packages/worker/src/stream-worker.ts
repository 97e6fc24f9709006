/**
 * The worker: takes data streams of a service and hands their records to a handler.
 *
 *   new ── run ──> running ── abort, close, client ended ──> closing ──> closed
 *   new ── close ──> closed
 *
 * What it consists of: the client owns streams; a StreamRun keeps what was read, handled and committed of each; a few
 * StreamReaders read them all; the Scheduler gives each its Turns; StreamEndings leave them.
 */
import {
  type JsonObject,
  type OwnedStream,
  type RedisStreamClient,
  StreamClientError,
} from '@redis-stream-client/client'
import {
  defaultLogger,
  guardLogger,
  invalidOption,
  isCluster,
  logFailures,
  messageOf,
  type RedisLike,
  type SafeLogger,
} from '@redis-stream-client/client/internal'
import type { Notification, StreamTerminated } from '@redis-stream-client/notifs'
import { SafeEmitter, withJsonForm } from '@redis-stream-client/notifs/internal'
import type { WorkerMiddleware } from './contract/record-context.js'
import { WorkerError } from './contract/worker-error.js'
import type { WorkerEvents } from './contract/worker-events.js'
import { guardWorkerRecorder } from './contract/worker-metrics.js'
import {
  type ResolvedWorkerOptions,
  resolveWorkerOptions,
  type WorkerOptions,
} from './contract/worker-options.js'
import { DeadLetters } from './failing/dead-letters.js'
import type { StreamRun } from './progress/stream-run.js'
import { resolveWorkerKeys, sharesHashTag, type WorkerKeys } from './redis/worker-keys.js'
import { describeRun, type WorkerHealth, type WorkerStatus } from './watching/worker-status.js'
import { makeClient, WorkerParts } from './worker-parts.js'

const CONNECT_TIMEOUT_MS = 5000

export interface PauseOptions {
  /** True: for every later owner of the stream too. Default false. */
  readonly keep?: boolean | undefined
}

type Phase = 'new' | 'running' | 'closing'

/**
 * `Value` is the type of `record.value`, inferred from the options: what `schema` answers, else what `decode` does. `Info`
 * is the type of `context.stream.additionalInfo`: what `client.infoSchema` answers.
 */
export class StreamWorker<Decoded = unknown, Value = Decoded, Info = JsonObject>
  extends SafeEmitter<WorkerEvents>
  implements AsyncDisposable
{
  /** Records that could not be handled: look at them, try them again, drop them. */
  readonly deadLetters: DeadLetters
  readonly #redis: RedisLike
  readonly #options: ResolvedWorkerOptions
  readonly #keys: WorkerKeys
  readonly #logger: SafeLogger
  readonly #client: RedisStreamClient
  readonly #parts: WorkerParts
  readonly #middleware: WorkerMiddleware[] = []
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
  constructor(redis: RedisLike, service: string, options: WorkerOptions<Decoded, Value, Info>) {
    const resolved = resolveWorkerOptions(options)
    const logger = options.logger ?? defaultLogger()
    const failures = logFailures(() => this.#logger)
    super({ onListenerError: failures.listenerFailed })
    this.#redis = redis
    this.#options = resolved
    this.#keys = resolveWorkerKeys(service, { onCluster: isCluster(redis) })
    this.#client = makeClient(redis, service, resolved, {
      client: options.client as WorkerOptions['client'],
      logger,
    })
    this.#logger = guardLogger(logger, { service, client: this.#client.id })
    this.deadLetters = new DeadLetters(redis, service)
    this.#parts = new WorkerParts({
      redis,
      client: this.#client,
      options: resolved,
      keys: this.#keys,
      recorder: guardWorkerRecorder(options.metrics, failures.recorderFailed),
      logger: this.#logger,
      emit: (event, payload) => {
        this.emit(event, ...([shown(payload)] as never))
      },
      middleware: this.#middleware,
      isClosing: () => this.#phase === 'closing',
      signal: this.#stop.signal,
    })
    this.#client.on('error', (error) => this.emit('error', error))
  }

  /** `redis-consumer-<POD_NAME>`. */
  get id(): string {
    return this.#client.id
  }

  /**
   * Puts a function around each call of the handler, inside those that were given before: tracing, logs, a unit of work of
   * an ORM. It counts as part of the handler: time limits include it, and what it throws fails the record.
   *
   * @throws StreamClientError OPTION_INVALID: it is no function.
   */
  use(middleware: WorkerMiddleware<Value, Info>): this {
    if (typeof middleware !== 'function') throw invalidOption('use', middleware, 'must be given a function')
    this.#middleware.push(middleware as WorkerMiddleware)
    return this
  }

  /**
   * Works until the signal aborts or `close` is called, and then until the worker has closed (see `close`).
   *
   * Resolves when it has, also if that was while it started. Rejects with CONSUMER_ID_IN_USE, REDIS_UNSUPPORTED or
   * REDIS_ERROR when it cannot start or the client underneath gives up; with CLOSED after `close` and when called again.
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

  /**
   * The session and connections of the client underneath, and the problems of the worker's own connections. Answered from
   * memory, so that a readiness probe may ask often. The worker is ready while `health().session === 'held'`, which it is
   * not before `run` and after `close`.
   */
  health(): WorkerHealth {
    const health = this.#client.health()
    const connectionProblems = [...health.connectionProblems, ...this.#parts.connectionProblems]
    return withJsonForm({ ...health, connectionProblems, paused: this.#parts.pauses.status })
  }

  /** What this worker does now, with the lag of its streams. Never rejects: without Redis, lag is null. */
  async status(): Promise<WorkerStatus> {
    const runs = [...this.#parts.runs.all.values()]
    const lags = await this.#parts.lag.measure(runs)
    return {
      client: this.#client.health(),
      breaker: this.#parts.breaker?.state ?? 'off',
      paused: this.#parts.pauses.status,
      running: this.#parts.scheduler.running,
      waiting: this.#parts.scheduler.waiting,
      buffered: this.#parts.bufferUse.records,
      bufferedBytes: this.#parts.bufferUse.bytes,
      readers: this.#parts.readers.map((reader) => reader.status),
      streams: runs.map((run) => describeRun(run, lags.get(run) ?? null)),
    }
  }

  /**
   * Begins no more records of a stream, or of any stream this worker owns or takes from now on. Handlers that run go on to
   * their end; nothing is read. A stream that is paused counts as neither stuck nor idle.
   *
   * Without `keep` the pause ends with this ownership. With it the pause is committed, and every later owner keeps it
   * until somebody resumes the stream; so does `pause({ keep: true })` for each stream this worker owns or takes meanwhile.
   *
   * Resolves when that is so, with `keep` when it is committed. Safe twice. Rejects with STREAM_NOT_OWNED (ask the worker
   * that owns it) and, with `keep`, CHECKPOINT_FOREIGN, SESSION_LOST, REDIS_ERROR.
   */
  async pause(dataStreamName: string, options?: PauseOptions): Promise<void>
  async pause(options?: PauseOptions): Promise<void>
  async pause(target: string | PauseOptions = {}, options: PauseOptions = {}): Promise<void> {
    const { pauses, runs } = this.#parts
    if (typeof target === 'string') return await pauses.pause(this.#runOf(target), options.keep === true)
    await pauses.pauseAll(runs.all.values(), target.keep === true)
  }

  /**
   * Lets a stream go on that is paused or halted, or, without a name, all that are paused, and those this worker takes.
   *
   * A halted stream goes on with the record it was halted at, which gets all its attempts again, or, with `skip`, with the
   * one after it; if there is none because it was the last record, the stream is finished. A stream that was halted because
   * of its checkpoint goes on from the checkpoint as it is now: correct that first.
   *
   * Resolves when that is committed. Rejects with STREAM_NOT_OWNED (ask the worker that owns it), STREAM_NOT_HALTED (it is
   * neither halted nor paused), CHECKPOINT_FOREIGN (it is not set right; the stream stays halted), SESSION_LOST, REDIS_ERROR.
   */
  async resume(
    dataStreamName?: string,
    { skip = false }: { readonly skip?: boolean | undefined } = {},
  ): Promise<void> {
    const { pauses, runs } = this.#parts
    if (dataStreamName === undefined) return await pauses.resumeAll(runs.all.values())
    const run = this.#runOf(dataStreamName)
    if (run.state === 'halted' || skip || run.paused === null) {
      await runs.resume(run, skip)
      if (run.paused === null) this.emit('streamResumed', { dataStreamName })
    }
    await pauses.resume(run)
  }

  /**
   * Replays the dead letter of the record at which a stream was halted, at the head of the stream: the record, which still
   * lies there, gets all its attempts again and comes before all others, and the letter is dropped in the same step.
   *
   * Resolves when that is committed. Rejects with DEAD_LETTER_GONE (also if the record is not in the data stream any more: the
   * letter stays, and `deadLetters.replay` adds it to the end), STREAM_NOT_OWNED (ask the worker that owns it),
   * STREAM_NOT_HALTED (or it is halted at another record), SESSION_LOST, REDIS_ERROR.
   */
  async replayAtHead(letterId: string): Promise<void> {
    const letter = await this.deadLetters.find(letterId)
    const run = this.#runOf(letter.dataStreamName)
    const { deadRecords } = this.#keys
    if (!(await this.#parts.scripts.hasRecord(letter.dataStreamName, letter.recordId))) {
      const problem = `record ${letter.recordId} is not in ${letter.dataStreamName} any more`
      throw new WorkerError('DEAD_LETTER_GONE', `${problem}: replay its dead letter to the end`, {
        facts: { id: letterId },
      })
    }
    const dropLetter = { words: ['XDEL', deadRecords, letterId], keys: [deadRecords] }
    await this.#parts.runs.replayAtHead(run, letter.recordId, dropLetter)
    this.emit('streamResumed', { dataStreamName: letter.dataStreamName })
  }

  #runOf(dataStreamName: string): StreamRun {
    const run = this.#parts.runs.all.get(dataStreamName)
    if (run !== undefined) return run
    throw new StreamClientError('STREAM_NOT_OWNED', `this worker does not own ${dataStreamName}`, {
      dataStreamName,
    })
  }

  async #work(): Promise<void> {
    const { signal } = this.#stop
    const notifications = await this.#start()
    if (notifications === null) return
    const agents = [...this.#parts.readers, this.#parts.lag].map((agent) => agent.run(signal))
    agents.push(this.#parts.runs.watch(signal))
    if (this.#parts.letterCalls !== null) agents.push(this.#parts.letterCalls.run(signal))
    let terminated: StreamTerminated | null = null
    for await (const notification of notifications) {
      if (notification.type === 'StreamAdded') this.#add(notification.stream)
      else if (notification.type === 'StreamTerminated') terminated = notification
      // A stream that is disowned says so by its signal; nothing expires for a client that claims by itself.
    }
    this.#stop.abort()
    await Promise.all(agents)
    await this.#parts.runs.settled()
    if (terminated?.error !== undefined) throw terminated.error
  }

  /** Null if the worker was told to leave meanwhile: that is no error of the start. */
  async #start(): Promise<AsyncIterable<Notification> | null> {
    const { signal } = this.#stop
    try {
      await Promise.all([
        this.#parts.commands.open(CONNECT_TIMEOUT_MS, signal),
        ...this.#parts.readers.map((reader) => reader.open(CONNECT_TIMEOUT_MS, signal)),
      ])
      await this.#parts.letterCalls?.open()
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
    this.#parts.runs.add(stream)
  }

  async #close(): Promise<void> {
    const wasNew = this.#phase === 'new'
    this.#phase = 'closing'
    const closing = new StreamClientError('CLOSED', 'the worker is closing')
    const drain = setTimeout(() => {
      for (const run of this.#parts.runs.all.values()) run.attempt?.abort('drain', closing)
    }, this.#options.drainMs)
    await this.#client.close()
    clearTimeout(drain)
    this.#stop.abort()
    if (!wasNew) await this.#running
    this.#parts.breaker?.stop()
    if (this.#parts.commands.status === 'ready') await this.#parts.rateLimit?.close()
    await this.#removeWakeKeys()
    for (const connection of [this.#parts.commands, ...this.#parts.readers]) connection.close()
  }

  async #removeWakeKeys(): Promise<void> {
    if (this.#parts.commands.status !== 'ready') return
    const keys = this.#parts.readers.map((_, index) => this.#keys.wake(this.id, index))
    try {
      await this.#parts.commands.run((redis) => redis.unlink(...keys))
    } catch (error) {
      this.#logger.debug({ error: messageOf(error) }, 'the wake keys were not removed, they expire')
    }
  }
}

/**
 * What listeners get: all of them the same object, which none can change. It is a copy, because a metrics recorder may
 * have been given the payload as well, and may have frozen it.
 */
function shown(payload: object): object {
  return payload instanceof Error ? payload : Object.freeze(withJsonForm({ ...payload }))
}
