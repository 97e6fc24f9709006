/**
 * The client an application uses.
 *
 *   new ── init ──> starting ──> running ── done, close, abort, reader exhausted ──> closing ──> closed
 *   new ── done, close ──> closed
 *
 * While it runs, one session follows another (see Session): each is served until it ends (see serve), then its
 * streams are disowned, the others are told, and the next session is sought.
 */
import { setMaxListeners } from 'node:events'
import {
  type ErrorCode,
  type LbsInfo,
  NotificationBroker,
  type OwnedStream,
  StreamClientError,
  type StreamTerminated,
  type TerminationReason,
} from '@redis-stream-client/notifs'
import { SafeEmitter } from '@redis-stream-client/notifs/internal'
import { backoffMs } from './backoff.js'
import { Deadline } from './deadline.js'
import type { ClientHealth, SessionState } from './health.js'
import { refuseKeyPrefix } from './lbs-producer.js'
import { defaultLogger, guardLogger, type SafeLogger } from './logger.js'
import { guardRecorder } from './metrics.js'
import { type ClientOptions, type ResolvedOptions, resolveOptions } from './options.js'
import { assemble, type Parts } from './parts.js'
import { isCluster, type RedisLike } from './redis/connection.js'
import { messageOf } from './redis/redis-errors.js'
import { checkServer } from './redis/server-check.js'
import { resolveServiceKeys } from './service-keys.js'
import type { Session } from './session.js'
import { giveBackStreams } from './shutdown.js'
import { sleep } from './sleep.js'
import type { DeadLetter } from './stream-taker.js'
import { announceEnd, serve } from './term.js'

const CONNECT_TIMEOUT_MS = 5000
/** For giving back what its owners have not, when their time is over. */
const LAST_RELEASES_MS = 1000
/** For the last words and for what is still under way, when the deadline for the streams is over. */
const LAST_WORDS_MS = 500
/** Between sessions that end before they have lasted one TTL. */
const FIRST_PAUSE_MS = 50
const GREATEST_PAUSE_MS = 5000

/** Events beside the one loop, for logs and metrics. A listener that throws harms nobody. */
export interface ClientEvents {
  /** The session's state has changed. */
  session: (state: SessionState) => void
  /** An entry went to the dead letters. */
  deadLetter: (letter: DeadLetter) => void
  /** Something went wrong that the client goes on after, or that ended it. */
  error: (error: Error) => void
}

type Phase = 'new' | 'starting' | 'running' | 'closed'

const INFO: Record<TerminationReason, string> = {
  done: 'the client has finished its streams and closed',
  closed: 'the client has handed its streams over and closed',
  aborted: 'the client was aborted; its streams go to others',
  'retries-exhausted': 'reading the LBS failed too often; the client has closed and its streams go to others',
}

export class RedisStreamClient extends SafeEmitter<ClientEvents> implements AsyncDisposable {
  /** `redis-consumer-<POD_NAME>`. */
  readonly id: string
  readonly #options: ResolvedOptions
  readonly #logger: SafeLogger
  readonly #broker: NotificationBroker
  readonly #parts: Parts
  readonly #agentsStop = new AbortController()
  readonly #seekingStop = new AbortController()
  #phase: Phase = 'new'
  #state: SessionState = 'starting'
  #session: Session | null = null
  #lastError: ClientHealth['lastError'] = null
  #running: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined

  /**
   * A client of a service, not connected yet. `redis` tells where the server is and how to log in; the client makes
   * its own connections and never sends anything on this one.
   *
   * @throws StreamClientError SERVICE_NAME_INVALID, OPTION_INVALID, CONSUMER_ID_MISSING.
   */
  constructor(redis: RedisLike, service: string, options: ClientOptions = {}) {
    const keys = resolveServiceKeys(service, { onCluster: isCluster(redis) })
    const resolved = resolveOptions(options)
    refuseKeyPrefix(redis)
    const logger = guardLogger(options.logger ?? defaultLogger(), { service, client: resolved.clientId })
    const onListenerError = (error: unknown, event: string): void =>
      logger.error({ event, error: messageOf(error) }, 'a listener has thrown')
    super({ onListenerError })
    setMaxListeners(0, this.#agentsStop.signal, this.#seekingStop.signal)
    this.id = resolved.clientId
    this.#options = resolved
    this.#logger = logger
    this.#broker = new NotificationBroker({ capacity: resolved.notificationBufferSize, onListenerError })
    const onRecorderError = (error: unknown): void =>
      logger.error({ error: messageOf(error) }, 'the metrics recorder has thrown')
    this.#parts = assemble({
      redis,
      keys,
      options: resolved,
      broker: this.#broker,
      recorder: guardRecorder(options.metrics, onRecorderError),
      logger,
      onDeadLetter: (letter) => this.emit('deadLetter', letter),
      onReaderExhausted: (error) => {
        this.#report(error)
        void this.#shutDown('retries-exhausted', error)
      },
      isClosing: () => this.#closing !== undefined,
    })
    // An application that closes the broker does not listen any more.
    void this.#broker.closed.then(() => this.close())
  }

  /**
   * Connects, begins a session and starts to take streams. When the signal aborts, the client shuts down like
   * `close`, but without waiting for owners.
   *
   * Resolves with the broker all notifications come from. Rejects with CONSUMER_ID_IN_USE (another living process
   * has this id), REDIS_UNSUPPORTED, REDIS_ERROR (not reached, password, permissions), CLOSED (after `close`, with a
   * signal that is aborted, or when called again).
   */
  async init(options: { signal?: AbortSignal } = {}): Promise<NotificationBroker> {
    const { signal } = options
    if (this.#phase !== 'new') {
      throw new StreamClientError(
        'CLOSED',
        this.#closing ? 'the client is closed' : 'init has been called before',
      )
    }
    if (signal?.aborted) {
      await this.close()
      throw new StreamClientError('CLOSED', 'the signal given to init is aborted', { cause: signal.reason })
    }
    this.#phase = 'starting'
    const onAbort = (): void => void this.#shutDown('aborted')
    signal?.addEventListener('abort', onAbort, { once: true })
    void this.#broker.closed.then(() => signal?.removeEventListener('abort', onAbort))
    const starting = this.#start()
    this.#running = starting.then(
      (session) => this.#run(session).catch((error: unknown) => this.#fail(error)),
      () => undefined, // init rejects with it
    )
    try {
      await starting
    } catch (error) {
      const wasClosed = this.#closing !== undefined
      await this.#shutDown('closed')
      if (wasClosed)
        throw new StreamClientError('CLOSED', 'the client was closed while it started', { cause: error })
      throw error
    }
    return this.#broker
  }

  /**
   * Claims a stream this client was told of by StreamExpired. Calls made in the same turn travel together: do not
   * await each in the loop.
   *
   * Resolves with the stream; no StreamAdded follows. A stream this client owns already is given as it is.
   * Rejects with ALREADY_CLAIMED (somebody was faster), STREAM_GONE (the entry is finished or unknown),
   * CAPACITY_REACHED, SESSION_LOST (this client has no session now), CLOSED, REDIS_ERROR.
   */
  async claim(payload: LbsInfo): Promise<OwnedStream> {
    if (this.#closing !== undefined) throw closed()
    if (typeof payload?.dataStreamName !== 'string' || typeof payload.idInLbs !== 'string') {
      throw new StreamClientError(
        'OPTION_INVALID',
        'claim needs the payload of a notification: dataStreamName, idInLbs',
      )
    }
    const session = this.#session
    if (session === null || !session.isHeld()) throw this.#withoutSession('claim')
    const stream = await this.#parts.claimRequests.claim(session, payload).catch((error: unknown) => {
      // By closing the client ended the session itself.
      const isCutOff = this.#closing !== undefined && isCoded(error, 'SESSION_LOST')
      throw isCutOff ? closed() : error
    })
    if (this.#closing !== undefined) throw closed() // closing gives the stream back
    stream.isAnnounced = true
    return stream
  }

  /**
   * Finishes the stream owned now under that name, as its `done()` does.
   * Rejects with STREAM_NOT_OWNED, SESSION_LOST, REDIS_ERROR.
   */
  async doneStream(dataStreamName: string): Promise<void> {
    const stream = this.#parts.ownership.streams.get(dataStreamName)
    if (stream !== undefined) return await stream.done()
    if (this.#session === null || !this.#session.isHeld()) throw this.#withoutSession('doneStream')
    throw new StreamClientError('STREAM_NOT_OWNED', `this client does not own ${dataStreamName}`, {
      dataStreamName,
    })
  }

  /**
   * Finishes every owned stream the application has been told of, hands over those it has not, then shuts down. Resolves when the client has closed, within `closeTimeoutMs` and
   * about a second; a stream that could not be finished by then goes to others, which StreamTerminated and the log say.
   * Never rejects. Safe twice, and beside `close`: the first call counts.
   */
  done(): Promise<void> {
    return this.#shutDown('done')
  }

  /**
   * Hands every owned stream over, then shuts down: for deploys. Signals abort with the code CLOSED; who listens to
   * one commits and releases (or finishes) his stream, within `closeTimeoutMs`. Resolves when the client has closed.
   * Never rejects. Safe twice, and before `init`.
   */
  close(): Promise<void> {
    return this.#shutDown('closed')
  }

  /** `await using`: as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** The streams owned now, by name. */
  get owned(): ReadonlyMap<string, OwnedStream> {
    return this.#parts.ownership.streams
  }

  health(): ClientHealth {
    const { commands, heartbeats, hints, ownership, reader } = this.#parts
    const session = this.#session
    return {
      id: this.id,
      session: this.#state,
      consumer: session?.consumer ?? null,
      trustLeftMs: session?.isHeld() ? session.trust.leftMs() : 0,
      owned: ownership.streams.size,
      capacity: ownership.capacity,
      queueRoom: this.#broker.room,
      lastReadAtMs: reader.lastReadAtMs,
      lastError: this.#lastError,
      connections: {
        commands: commands.status,
        heartbeat: heartbeats.status,
        reader: reader.status,
        hints: hints.statuses,
      },
    }
  }

  async #start(): Promise<Session> {
    const { commands, heartbeats, lbs, persistence, sessions } = this.#parts
    const { signal } = this.#seekingStop
    await Promise.all([
      commands.open(CONNECT_TIMEOUT_MS, signal),
      heartbeats.open(CONNECT_TIMEOUT_MS, signal),
    ])
    for (const { facts, message } of await checkServer(commands)) this.#logger.warn(facts, message)
    const session = await sessions.begin(signal)
    try {
      await persistence.send('make the group', session, () => lbs.ensureConsumer(session.consumer))
      signal.throwIfAborted()
      if (this.#closing !== undefined) throw closed()
      return session
    } catch (error) {
      session.end('the client could not start')
      await this.#sayGoodbye(session)
      throw error
    }
  }

  /** The last words of a session, as long as somebody listens. */
  async #sayGoodbye(session: Session): Promise<void> {
    const lastWords = new Deadline(LAST_WORDS_MS)
    await Promise.race([announceEnd(session, this.#parts, lastWords.signal, this.#logger), lastWords.over])
    lastWords.clear()
  }

  /** Serves one session after the other, until the client closes. */
  async #run(first: Session): Promise<void> {
    this.#phase = 'running'
    const { signal } = this.#seekingStop
    let short = 0
    for (let session: Session | null = first; session !== null; ) {
      const beganMs = performance.now()
      this.#session = session
      this.#setState('held')
      session.signal.addEventListener('abort', () => this.#lose(session as Session), { once: true })
      await serve(session, this.#parts, this.#agentsStop.signal, this.#logger)
      this.#session = null
      if (this.#closing !== undefined) return
      await announceEnd(session, this.#parts, signal, this.#logger)
      this.#setState('seeking')
      short = performance.now() - beganMs < this.#options.heartbeatTtlMs ? short + 1 : 0
      if (short > 1) await sleep(backoffMs(short, FIRST_PAUSE_MS, GREATEST_PAUSE_MS), signal)
      session = await this.#parts.sessions.seek(signal)
      if (session !== null && signal.aborted) {
        session.end('the client has closed')
        return await this.#sayGoodbye(session)
      }
    }
  }

  #lose(session: Session): void {
    if (this.#closing !== undefined) return
    this.#setState('lost')
    this.#report(session.signal.reason as Error)
    this.#logger.warn({ reason: messageOf(session.signal.reason) }, 'the session is lost, seeking a new one')
  }

  /** A mistake of this library's own: better closed, with its streams handed over, than half alive. */
  #fail(problem: unknown): void {
    const error = problem instanceof Error ? problem : new Error(messageOf(problem))
    this.#logger.error({ error: messageOf(error) }, 'the client cannot go on')
    this.#report(error)
    void this.#shutDown('aborted', error)
  }

  #shutDown(reason: TerminationReason, error?: Error): Promise<void> {
    this.#closing ??= this.#close(reason, error).catch((problem: unknown) => {
      this.#logger.error({ error: messageOf(problem) }, 'closing failed')
    })
    return this.#closing
  }

  async #close(reason: TerminationReason, error: Error | undefined): Promise<void> {
    const { commands, heartbeats, hints, taker } = this.#parts
    const wasNew = this.#phase === 'new'
    this.#phase = 'closed'
    taker.close()
    this.#agentsStop.abort()
    this.#setState('closed')
    const left = await this.#giveBack(reason)
    this.#seekingStop.abort()
    const session = this.#session
    session?.end('the client has closed')
    if (session !== null) await this.#sayGoodbye(session)
    hints.stop()
    if (!wasNew) await this.#settleRunning()
    commands.close()
    heartbeats.close()
    this.#broker.close(terminated(reason, left, error))
  }

  async #settleRunning(): Promise<void> {
    const patience = new Deadline(2 * LAST_WORDS_MS)
    await Promise.race([this.#running, patience.over])
    patience.clear()
  }

  /** Answers how many streams could not be given back. Over at once when the session is. */
  async #giveBack(reason: TerminationReason): Promise<number> {
    const session = this.#session
    if (session === null) return 0
    const { closeTimeoutMs } = this.#options
    const owners = new Deadline(closeTimeoutMs, session.signal)
    const releases = new Deadline(closeTimeoutMs + LAST_RELEASES_MS, session.signal)
    try {
      return await giveBackStreams(reason, this.#parts, { owners, releases }, this.#logger)
    } finally {
      owners.clear()
      releases.clear()
    }
  }

  #setState(state: SessionState): void {
    if (this.#state === state || this.#state === 'closed') return
    this.#state = state
    this.emit('session', state)
  }

  #report(error: Error): void {
    const code = error instanceof StreamClientError ? error.code : null
    this.#lastError = { message: error.message, code, atMs: Date.now() }
    this.emit('error', error)
  }

  #withoutSession(operation: string): StreamClientError {
    if (this.#closing !== undefined) return closed()
    return new StreamClientError('SESSION_LOST', `${operation}: the client has no session now`, {
      state: this.#state,
    })
  }
}

function isCoded(error: unknown, code: ErrorCode): boolean {
  return error instanceof StreamClientError && error.code === code
}

function closed(): StreamClientError {
  return new StreamClientError('CLOSED', 'the client is closed')
}

function terminated(reason: TerminationReason, left: number, error: Error | undefined): StreamTerminated {
  const rest =
    left === 0 ? '' : `; ${left} streams could not be given back and go to others when the session expires`
  return {
    type: 'StreamTerminated',
    additionalInfo: { info: INFO[reason] + rest },
    reason,
    ...(error === undefined ? {} : { error }),
  }
}
