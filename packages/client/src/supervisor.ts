/**
 * Serves one session after the other for as long as the client runs: each until it ends, then its streams are
 * disowned and the next session is sought.
 *
 *   starting ── start ──> held ── the session ends ──> lost ── its key is gone ──> seeking ── found ──> held
 *   any ── leave ──> closed
 */
import { setMaxListeners } from 'node:events'
import { StreamClientError, type StreamExpired } from '@redis-stream-client/notifs'
import { Deadline } from './async/deadline.js'
import { sleep } from './async/sleep.js'
import type { ClientContext, ClientParts } from './client-parts.js'
import { backoffMs } from './decisions/backoff.js'
import type { FleetLevel } from './decisions/water-level.js'
import type { SessionState } from './health.js'
import type { SafeLogger } from './logger.js'
import { messageOf, redisError } from './redis/redis-errors.js'
import { checkServer } from './redis/server-check.js'
import { beginSession, endInRedis } from './session/begin-and-end.js'
import { Outage } from './session/outage.js'
import { sessionLost } from './session/retries.js'
import { HEARTBEATS_PER_TTL, type Session } from './session/session.js'
import { SessionRun } from './session-run.js'

/** For connecting at the start, and no less than one TTL: a fleet that begins together has to wait for each other. */
const LEAST_CONNECT_TIMEOUT_MS = 5000
/** Time allowed for announcing that the session is over, and again for the work it still has in flight. */
const END_TIMEOUT_MS = 500
/** Between sessions that end before they have lasted one TTL. */
const FIRST_PAUSE_MS = 50
const GREATEST_PAUSE_MS = 5000

export interface SupervisorContext {
  readonly client: ClientContext
  readonly parts: ClientParts
  readonly onState: (state: SessionState) => void
  /** A session has ended that nobody ended. */
  readonly onLost: (reason: Error) => void
  /** A mistake of this library's own: nothing is served any more. */
  readonly onFailure: (error: Error) => void
}

export class Supervisor {
  readonly #context: SupervisorContext
  readonly #logger: SafeLogger
  readonly #heartbeatTtlMs: number
  readonly #agentsStop = new AbortController()
  readonly #seekingStop = new AbortController()
  #state: SessionState = 'starting'
  #run: SessionRun | null = null
  #running: Promise<void> = Promise.resolve()

  constructor(context: SupervisorContext) {
    this.#context = context
    this.#logger = context.client.logger
    this.#heartbeatTtlMs = context.client.options.heartbeatTtlMs
    setMaxListeners(0, this.#agentsStop.signal, this.#seekingStop.signal)
  }

  get state(): SessionState {
    return this.#state
  }

  /** What is done for the session that is served now. The session may have ended already. */
  get run(): SessionRun | null {
    return this.#run
  }

  /** The session that is served now. It may have ended already. */
  get session(): Session | null {
    return this.#run?.session ?? null
  }

  /**
   * Connects, begins the first session and goes on serving. Resolves when the client may work. Rejects with the codes
   * of `RedisStreamClient.init`, and nothing is left behind then.
   */
  start(): Promise<void> {
    const starting = this.#begin()
    this.#running = starting.then(
      (session) => this.#serveAll(session).catch((error: unknown) => this.#fail(error)),
      () => undefined, // whoever called start hears of it
    )
    return starting.then(() => undefined)
  }

  /** From now on nothing new is read, taken or told. The session goes on. */
  stopAgents(): void {
    this.#agentsStop.abort()
    this.#setState('closed')
  }

  /** Ends the session, tells the other clients, and waits a limited time for its work in flight. Safe before `start`. */
  async leave(): Promise<void> {
    this.#seekingStop.abort()
    const run = this.#run
    run?.session.end('the client has closed')
    if (run !== null) await this.#announceEnd(run.session, run.streams.streamChanges.levelWithoutUs)
    await before(this.#running, new Deadline(2 * END_TIMEOUT_MS))
  }

  async #begin(): Promise<Session> {
    const { parts } = this.#context
    const { commands, heartbeats, sessions } = parts
    const { signal } = this.#seekingStop
    const connectTimeoutMs = Math.max(LEAST_CONNECT_TIMEOUT_MS, this.#heartbeatTtlMs)
    await Promise.all([commands, heartbeats].map((each) => each.open(connectTimeoutMs, signal)))
    const warnings = await checkServer(commands, { forMs: connectTimeoutMs, signal })
    for (const { facts, message } of warnings) this.#logger.warn(facts, message)
    for (const untilMs = performance.now() + connectTimeoutMs; ; ) {
      const session = await sessions.begin(signal)
      try {
        await beginSession(session, parts)
        this.#agentsStop.signal.throwIfAborted()
        if (this.#isTooShort(session)) throw sessionLost('make the group', session)
        return session
      } catch (error) {
        // A short session may be over before anybody keeps it: then another one is begun.
        const isAgainWorthIt = this.#isTooShort(session) && performance.now() < untilMs
        session.end('the client could not start')
        await this.#announceEnd(session)
        if (isAgainWorthIt && !this.#agentsStop.signal.aborted) continue
        throw this.#isTooSlow(error) ? this.#tooSlow(session) : error
      }
    }
  }

  /** True if the session is over, or will be before a heartbeat has had its time to be answered. */
  #isTooShort(session: Session): boolean {
    return !session.isHeld() || session.trust.leftMs() < this.#heartbeatTtlMs / HEARTBEATS_PER_TTL
  }

  #isTooSlow(error: unknown): boolean {
    const isOver = error instanceof StreamClientError && error.code === 'SESSION_LOST'
    return isOver && !this.#seekingStop.signal.aborted
  }

  #tooSlow({ ageMs }: Session): StreamClientError {
    const heartbeatTtlMs = this.#heartbeatTtlMs
    const problem =
      `${Math.round(ageMs)} ms after the heartbeat key was asked for the group was not made: ` +
      `Redis answers too slowly for heartbeatTtlMs (${heartbeatTtlMs}), make it longer`
    return redisError('begin the session', new Error(problem))
  }

  async #serveAll(first: Session): Promise<void> {
    const { sessions } = this.#context.parts
    const { signal } = this.#seekingStop
    let shortSessions = 0
    let unread: readonly StreamExpired[] = []
    for (let session: Session | null = first; session !== null && !signal.aborted; ) {
      const beganMs = performance.now()
      const outage = new Outage(this.#logger)
      unread = await this.#serve(session, unread, outage)
      if (this.#state === 'closed') return
      const isShort = performance.now() - beganMs < this.#heartbeatTtlMs
      shortSessions = isShort ? shortSessions + 1 : 0
      if (shortSessions > 1) await sleep(backoffMs(shortSessions, FIRST_PAUSE_MS, GREATEST_PAUSE_MS), signal)
      session = await sessions.seek(signal, outage)
      if (session !== null) outage.end()
      if (session !== null && signal.aborted) {
        session.end('the client has closed')
        await this.#announceEnd(session)
      }
    }
  }

  /** Answers what the application was told of meanwhile and has not read. */
  async #serve(
    session: Session,
    unread: readonly StreamExpired[],
    outage: Outage,
  ): Promise<readonly StreamExpired[]> {
    const { client, parts } = this.#context
    const run = new SessionRun(client, parts, { session, unread, closing: this.#agentsStop.signal })
    this.#run = run
    this.#setState('held')
    session.signal.addEventListener('abort', () => this.#lose(session), { once: true })
    await run.serve()
    this.#run = null
    if (this.#state === 'closed') return []
    const how = { tell: null, signal: this.#seekingStop.signal, outage }
    await endInRedis(session, parts, how, this.#logger)
    this.#setState('seeking')
    return run.unread
  }

  #lose(session: Session): void {
    if (this.#state === 'closed') return
    this.#setState('lost')
    const reason = session.signal.reason as Error
    this.#logger.warn({ reason: reason.message }, 'the session is lost, seeking a new one')
    this.#context.onLost(reason)
  }

  #fail(problem: unknown): void {
    const error = problem instanceof Error ? problem : new Error(messageOf(problem))
    this.#logger.error({ error: messageOf(error) }, 'the client cannot go on')
    this.#context.onFailure(error)
  }

  /** `level`: that of the other clients without this one, if it is known. */
  async #announceEnd(session: Session, level: FleetLevel | null = null): Promise<void> {
    const deadline = new Deadline(END_TIMEOUT_MS)
    const how = { tell: { level }, signal: deadline.signal }
    await before(endInRedis(session, this.#context.parts, how, this.#logger), deadline)
  }

  #setState(state: SessionState): void {
    if (this.#state === state || this.#state === 'closed') return
    this.#state = state
    this.#context.onState(state)
  }
}

async function before(work: Promise<unknown>, deadline: Deadline): Promise<void> {
  await Promise.race([work, deadline.over])
  deadline.clear()
}
