/**
 * The client an application uses.
 *
 *   new ── init ──> starting ──> running ── done, close, abort, reader exhausted ──> closing ──> closed
 *   new ── done, close ──> closed
 *
 * While it runs, the supervisor serves one session after the other.
 */
import {
  type ErrorCode,
  type JsonObject,
  type LbsInfo,
  NotificationBroker,
  type OwnedStream,
  StreamClientError,
  type StreamTerminated,
  type TerminationReason,
} from '@redis-stream-client/notifs'
import { SafeEmitter, withJsonForm } from '@redis-stream-client/notifs/internal'
import type { RebalanceEvent } from './agents/rebalancer.js'
import { Deadline } from './async/deadline.js'
import { type ClientContext, type ClientParts, clientParts } from './client-parts.js'
import { offerOf } from './decisions/offer.js'
import { shareAt } from './decisions/water-level.js'
import { logFailures } from './failure-log.js'
import type { ClientHealth, SessionState } from './health.js'
import { refuseKeyPrefix } from './lbs-producer.js'
import { defaultLogger, guardLogger, type SafeLogger } from './logger.js'
import { guardRecorder } from './metrics.js'
import { type ClientOptions, type ResolvedOptions, resolveOptions } from './options.js'
import type { DeadLetter } from './ownership/dead-letters.js'
import type { ConnectionProblem } from './redis/connection.js'
import { isCluster, type RedisLike } from './redis/duplicate.js'
import { messageOf } from './redis/redis-errors.js'
import { ServiceDeadLetters } from './service-dead-letters.js'
import { resolveServiceKeys } from './service-keys.js'
import type { SessionRun } from './session-run.js'
import { giveBackStreams } from './shutdown.js'
import { Supervisor } from './supervisor.js'

/** Time for releasing the streams that their owners have not given back within `closeTimeoutMs`. */
const LAST_RELEASES_MS = 1000

/** Events beside the one loop, for logs and metrics. A listener that throws harms nobody. */
export interface ClientEvents {
  /** The session's state has changed. */
  session: (state: SessionState) => void
  /** Streams are moved so that each client has its share. */
  rebalance: (event: RebalanceEvent) => void
  /** An entry went to the dead letters. */
  deadLetter: (letter: DeadLetter) => void
  /** Something went wrong that the client goes on after, or that ended it. */
  error: (error: Error) => void
}

const INFO: Record<TerminationReason, string> = {
  done: 'the client has finished its streams and closed',
  closed: 'the client has handed its streams over and closed',
  aborted: 'the client was aborted; its streams go to others',
  'retries-exhausted': 'reading the LBS failed too often; the client has closed and its streams go to others',
}

/** `Info` is the type of `additionalInfo`, inferred from the option `infoSchema`. */
export class RedisStreamClient<Info = JsonObject>
  extends SafeEmitter<ClientEvents>
  implements AsyncDisposable
{
  readonly #options: ResolvedOptions
  readonly #logger: SafeLogger
  readonly #broker: NotificationBroker
  readonly #parts: ClientParts
  readonly #supervisor: Supervisor
  readonly #deadLetters: ServiceDeadLetters
  #isNew = true
  #lastError: ClientHealth['lastError'] = null
  #closing: Promise<void> | undefined

  /**
   * A client of a service, not connected yet. `redis` tells where the server is and how to log in; the client makes
   * its own connections and never sends anything on this one.
   *
   * @throws StreamClientError SERVICE_NAME_INVALID, OPTION_INVALID, CONSUMER_ID_MISSING.
   */
  constructor(redis: RedisLike, service: string, options: ClientOptions<Info> = {}) {
    const keys = resolveServiceKeys(service, { onCluster: isCluster(redis) })
    const resolved = resolveOptions(options)
    refuseKeyPrefix(redis)
    const logger = guardLogger(options.logger ?? defaultLogger(), { service, client: resolved.clientId })
    const failures = logFailures(() => logger)
    const onListenerError = failures.listenerFailed
    super({ onListenerError })
    this.#options = resolved
    this.#logger = logger
    this.#broker = new NotificationBroker({ capacity: resolved.notificationBufferSize, onListenerError })
    const context: ClientContext = {
      redis,
      keys,
      options: resolved,
      broker: this.#broker,
      recorder: guardRecorder(options.metrics, failures.recorderFailed),
      logger,
      onDeadLetter: (letter) => this.emit('deadLetter', letter),
      onRebalance: (event) => this.emit('rebalance', event),
      onReaderExhausted: (error) => {
        this.#report(error)
        void this.#shutDown('retries-exhausted', error)
      },
      onHeartbeatExpired: () => this.#supervisor.run?.agents?.probe.hearExpired(),
      onFailoverMessage: (message) => {
        const agents = this.#supervisor.run?.agents
        if (message.type === 'plan') agents?.rebalancer.hearPlan()
        else agents?.failover.hearWaiting(message)
      },
    }
    this.#parts = clientParts(context)
    this.#deadLetters = new ServiceDeadLetters(this.#parts.commands.redis, service)
    this.#supervisor = new Supervisor({
      client: context,
      parts: this.#parts,
      onState: (state) => this.emit('session', state),
      onLost: (reason) => this.#report(reason),
      onFailure: (error) => {
        this.#report(error)
        void this.#shutDown('aborted', error)
      },
    })
    // An application that closes the broker does not listen any more.
    void this.#broker.closed.then(() => this.close())
  }

  /** `redis-consumer-<POD_NAME>`. */
  get id(): string {
    return this.#options.clientId
  }

  /**
   * Connects, begins a session and starts to take streams. When the signal aborts, the client shuts down like
   * `close`, but without waiting for owners.
   *
   * Resolves with the broker all notifications come from. Rejects with CONSUMER_ID_IN_USE (another living process
   * has this id), REDIS_UNSUPPORTED, REDIS_ERROR (not reached, password, permissions), CLOSED (after `close`, with a
   * signal that is aborted, or when called again).
   */
  async init(options: { signal?: AbortSignal } = {}): Promise<NotificationBroker<Info>> {
    const { signal } = options
    if (!this.#isNew) {
      const why = this.#closing ? 'the client is closed' : 'init has been called before'
      throw new StreamClientError('CLOSED', why)
    }
    if (signal?.aborted) {
      await this.close()
      throw new StreamClientError('CLOSED', 'the signal given to init is aborted', { cause: signal.reason })
    }
    this.#isNew = false
    const onAbort = (): void => void this.#shutDown('aborted')
    signal?.addEventListener('abort', onAbort, { once: true })
    void this.#broker.closed.then(() => signal?.removeEventListener('abort', onAbort))
    try {
      await this.#supervisor.start()
    } catch (error) {
      const wasClosed = this.#closing !== undefined
      await this.#shutDown('closed')
      if (!wasClosed) throw error
      throw new StreamClientError('CLOSED', 'the client was closed while it started', { cause: error })
    }
    return this.#broker as NotificationBroker<unknown> as NotificationBroker<Info>
  }

  /**
   * Claims a stream this client was told of by StreamExpired. Calls made in the same turn travel together: do not
   * await each in the loop.
   *
   * Resolves with the stream; no StreamAdded follows. For a stream this client owns already, or claims twice, that is
   * the same object again: begin its work once.
   * Rejects with ALREADY_CLAIMED (somebody was faster), STREAM_GONE (the entry is finished or unknown),
   * CAPACITY_REACHED, SESSION_LOST (this client has no session now), CLOSED, REDIS_ERROR.
   */
  async claim(payload: LbsInfo): Promise<OwnedStream<Info>> {
    if (this.#closing !== undefined) throw closed()
    if (typeof payload?.dataStreamName !== 'string' || typeof payload.idInLbs !== 'string') {
      throw new StreamClientError(
        'OPTION_INVALID',
        'claim needs the payload of a notification: dataStreamName, idInLbs',
      )
    }
    const { claimRequests, told } = this.#runFor('claim').streams
    const claimed = told.whileClaiming(payload.idInLbs, () => claimRequests.claim(payload))
    const stream = await claimed.catch((error: unknown) => {
      // By closing the client ended the session itself.
      const isCutOff = this.#closing !== undefined && isCoded(error, 'SESSION_LOST')
      throw isCutOff ? closed() : error
    })
    if (this.#closing !== undefined) throw closed() // closing gives the stream back
    stream.announce()
    return stream as OwnedStream<unknown> as OwnedStream<Info>
  }

  /**
   * Finishes the stream owned now under that name, as its `done()` does.
   * Rejects with STREAM_NOT_OWNED, SESSION_LOST, REDIS_ERROR.
   */
  async doneStream(dataStreamName: string): Promise<void> {
    const stream = this.#parts.ownership.streams.get(dataStreamName)
    if (stream !== undefined) return await stream.done()
    if (!this.#supervisor.session?.isHeld()) throw this.#withoutSession('doneStream')
    throw new StreamClientError('STREAM_NOT_OWNED', `this client does not own ${dataStreamName}`, {
      dataStreamName,
    })
  }

  /**
   * Finishes every owned stream the application has been told of, hands over those it has not, then shuts down.
   * Resolves when the client has closed, within `closeTimeoutMs` and 2.5 s; a stream that could not be finished by
   * then goes to others, which StreamTerminated says.
   * Never rejects. Safe twice, and beside `close`: the first call counts.
   */
  done(): Promise<void> {
    return this.#shutDown('done')
  }

  /**
   * Hands every owned stream over, then shuts down: for deploys. Signals abort with the code CLOSED; an application that
   * listens to the signal commits and then releases (or finishes) the stream, within `closeTimeoutMs`. Resolves when the
   * client has closed, at most 2.5 s after that. Never rejects. Safe twice, and before `init`.
   */
  close(): Promise<void> {
    return this.#shutDown('closed')
  }

  /**
   * Has streams moved now, however little the clients are off their shares, without waiting until the same clients have
   * been there for a while. Resolves when the owners are being asked, with how many streams there are to move and how
   * many a client of weight 1 is to have. Rejects with SESSION_LOST, CLOSED, REDIS_ERROR.
   */
  async rebalance(): Promise<{ moves: number; level: number }> {
    const { retries, scripts, view } = this.#parts
    const run = this.#runFor('rebalance')
    const { session } = run
    const roster = await retries.send('read the roster', session, () => scripts.roster({ withEnds: true }))
    view.read(roster)
    const { rebalancer } = await run.begun
    return await retries.send('publish a plan', session, () => rebalancer.plan(roster, { isForced: true }))
  }

  /**
   * Takes nothing more and gives back every stream, as `rebalance` does, while the session goes on: before a machine is
   * emptied. Owners are asked by their signals (code REBALANCING); streams whose signal nobody has read are given back at
   * once. Resolves when this client owns nothing. Rejects with SESSION_LOST, CLOSED, REDIS_ERROR; it stays drained then
   * too, also in later sessions.
   */
  async drain(): Promise<void> {
    const { facts, ownership, retries, scripts } = this.#parts
    ownership.isDraining = true
    const run = this.#runFor('drain')
    const { session } = run
    await retries.send('drain', session, () => scripts.beginSession(session, facts()))
    const roster = await retries.send('read the roster', session, () => scripts.roster())
    const { rebalancer } = await run.begun
    await rebalancer.drain(offerOf(roster, session.consumer))
    this.#runFor('drain')
  }

  /** `await using`: as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** The streams owned now, by name: one object that always shows the present state and cannot be changed. */
  get owned(): ReadonlyMap<string, OwnedStream<Info>> {
    const streams: ReadonlyMap<string, OwnedStream<unknown>> = this.#parts.ownership.streams
    return streams as ReadonlyMap<string, OwnedStream<Info>>
  }

  /** The assignments that could not be served. Uses a connection of the client's own: usable once `init` has resolved. */
  get deadLetters(): ServiceDeadLetters {
    return this.#deadLetters
  }

  health(): ClientHealth {
    const { commands, deliveries, facts, feed, heartbeats, hints, ownership, view } = this.#parts
    const { run, session, state } = this.#supervisor
    return withJsonForm({
      id: this.id,
      session: state,
      consumer: session?.consumer ?? null,
      trustLeftMs: session?.isHeld() ? session.trust.leftMs() : 0,
      owned: ownership.streams.size,
      capacity: ownership.capacity,
      untold: deliveries.countUntold(ownership.streams.values()),
      oldestUnreadMs: deliveries.oldestUnreadMs,
      fleet: view.facts,
      share: view.facts === null ? null : shareAt(view.facts.level, { ...this.#options, ...facts() }),
      moving: run?.agents?.rebalancer.moving ?? 0,
      unmovable: deliveries.countUnmovable(ownership.streams.values()),
      draining: ownership.isDraining,
      queueRoom: this.#broker.room,
      lastReadAtMs: feed.lastReadAtMs,
      lastError: this.#lastError,
      connections: {
        commands: commands.status,
        heartbeat: heartbeats.status,
        reader: feed.status,
        hints: hints.statuses,
      },
      connectionProblems: [
        ...named('commands', [commands.problem]),
        ...named('heartbeat', [heartbeats.problem]),
        ...named('reader', [feed.problem]),
        ...named('hints', hints.problems),
      ],
    })
  }

  #shutDown(reason: TerminationReason, error?: Error): Promise<void> {
    this.#closing ??= this.#close(reason, error).catch((problem: unknown) => {
      this.#logger.error({ error: messageOf(problem) }, 'closing failed')
    })
    return this.#closing
  }

  async #close(reason: TerminationReason, error: Error | undefined): Promise<void> {
    const { commands, heartbeats, hints } = this.#parts
    this.#isNew = false
    this.#supervisor.stopAgents()
    const left = await this.#giveBack(reason)
    await this.#supervisor.leave()
    hints.stop()
    commands.close()
    heartbeats.close()
    this.#broker.close(terminated(reason, left, error))
  }

  /** Answers how many streams could not be given back. Over at once when the session is. */
  async #giveBack(reason: TerminationReason): Promise<number> {
    const { run } = this.#supervisor
    if (run === null) return 0
    const { session } = run
    const { closeTimeoutMs } = this.#options
    const owners = new Deadline(closeTimeoutMs, session.signal)
    const releases = new Deadline(closeTimeoutMs + LAST_RELEASES_MS, session.signal)
    try {
      return await giveBackStreams(reason, run, this.#parts, { owners, releases }, this.#logger)
    } finally {
      owners.clear()
      releases.clear()
    }
  }

  #report(error: Error): void {
    const code = error instanceof StreamClientError ? error.code : null
    this.#lastError = { message: error.message, code, atMs: Date.now() }
    this.emit('error', error)
  }

  /** What is done for the session that is held now, for an operation that needs one. */
  #runFor(operation: string): SessionRun {
    const { run } = this.#supervisor
    if (this.#closing !== undefined || !run?.session.isHeld()) throw this.#withoutSession(operation)
    return run
  }

  #withoutSession(operation: string): StreamClientError {
    if (this.#closing !== undefined) return closed()
    return new StreamClientError('SESSION_LOST', `${operation}: the client has no session now`, {
      state: this.#supervisor.state,
    })
  }
}

type NamedProblem = ClientHealth['connectionProblems'][number]

function named(
  connection: NamedProblem['connection'],
  problems: readonly (ConnectionProblem | null)[],
): NamedProblem[] {
  return problems.flatMap((problem) => (problem === null ? [] : [{ connection, ...problem }]))
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
  const notification: StreamTerminated = {
    type: 'StreamTerminated',
    additionalInfo: Object.freeze({ info: INFO[reason] + rest }),
    reason,
    ...(error === undefined ? {} : { error }),
  }
  return Object.freeze(withJsonForm(notification))
}
