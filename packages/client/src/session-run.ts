/** Everything that happens between the beginning and the end of one session, and all that is built for it. */
import { setMaxListeners } from 'node:events'
import type { StreamExpired } from '@redis-stream-client/notifs'
import { aborted } from './async/sleep.js'
import type { ClientContext, ClientParts } from './client-parts.js'
import { dampedForMs } from './decisions/member-facts.js'
import { SETTLE_MS } from './decisions/water-level.js'
import { messageOf } from './redis/redis-errors.js'
import { beginSession } from './session/begin-and-end.js'
import { sessionLost } from './session/retries.js'
import type { Session } from './session/session.js'
import { type SessionAgents, sessionAgents } from './session-agents.js'
import { type SessionStart, type SessionStreams, sessionStreams } from './session-streams.js'

/** Names of dead consumers that a session which begins leaves for the probe, and for the background cleanup. */
const NAMES_KEPT = 100

export class SessionRun {
  readonly session: Session
  readonly streams: SessionStreams
  readonly #context: ClientContext
  readonly #parts: ClientParts
  readonly #closing: AbortSignal
  /** Aborts when the agents have to stop. */
  readonly #stop = new AbortController()
  #agents: SessionAgents | null = null
  #begun: Promise<SessionAgents> | undefined

  constructor(context: ClientContext, parts: ClientParts, start: Omit<SessionStart, 'signal'>) {
    this.session = start.session
    this.streams = sessionStreams(context, parts, { ...start, signal: this.#stop.signal })
    this.#context = context
    this.#parts = parts
    this.#closing = start.closing
    setMaxListeners(0, this.#stop.signal) // every wait of every agent
  }

  /** Null before Redis has entered the session among those of the other clients. */
  get agents(): SessionAgents | null {
    return this.#agents
  }

  /** Resolves with the agents when there are any. Rejects with SESSION_LOST if the session ends before. */
  get begun(): Promise<SessionAgents> {
    return this.#begun ?? Promise.reject(sessionLost('begin the session', this.session))
  }

  /** What the application was told of and has not read. */
  get unread(): readonly StreamExpired[] {
    return this.streams.told.unread
  }

  /**
   * Serves the session, once: agents work until it ends or the client closes, heartbeats go on until it ends. Resolves
   * when the session has ended, its streams are disowned, and everything that worked for it has settled.
   */
  async serve(): Promise<void> {
    const { session } = this
    const stop = (): void => this.#stop.abort()
    this.#closing.addEventListener('abort', stop, { once: true })
    if (this.#closing.aborted) stop()
    const heartbeats = session.keep()
    const work = this.#work()
    await aborted(session.signal) // in the timer phase in which trust is over, whatever is under way
    stop()
    this.#closing.removeEventListener('abort', stop)
    await this.#parts.ownership.disownAll(session)
    await Promise.all([heartbeats, work])
  }

  async #work(): Promise<void> {
    const { session } = this
    try {
      this.#begun = this.#begin()
      const agents = Object.values(await this.#begun)
      await Promise.all(agents.map((agent) => agent.run()))
    } catch (error) {
      if (!session.isHeld()) return
      this.#context.logger.error({ error: messageOf(error) }, 'the session cannot be served')
      session.end('it cannot be served')
    }
  }

  async #begin(): Promise<SessionAgents> {
    const { session } = this
    const { clients, former, namesInExcess, restarts } = await beginSession(session, this.#parts)
    this.#parts.hints.clients = clients
    // Not all of a fleet that begins: its clients must not all read of each other. One that comes back has left names that
    // go when it has taken its streams back.
    const isNew = former.length === 0
    if (isNew && namesInExcess > NAMES_KEPT && Math.random() < NAMES_KEPT / namesInExcess)
      await this.#parts.deadConsumers.removeExcess(session)
    const dampedMs = dampedForMs(restarts, SETTLE_MS)
    this.#agents = sessionAgents(this.#context, this.#parts, this.streams, {
      session,
      signal: this.#stop.signal,
      dampedMs,
      former: dampedMs > 0 ? [] : former,
    })
    return this.#agents
  }
}
