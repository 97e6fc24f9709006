/**
 * The time for which a client holds its heartbeat key. It begins when the key is taken and ends, for ever, when trust runs out,
 * when the key turns out to hold something else, or when the client leaves.
 *
 *   held ── heartbeat answers ──> held        (trust is renewed from the moment the heartbeat was sent)
 *   held ── no answer: again at once, then after short pauses, until trust is over ──> ended
 *   held ── the key holds another value or none ──> ended
 *   held ── end() ──> ended
 *
 * Nobody may act as owner unless `isHeld()` is true at that moment: it reads the clock, so it is right even when
 * timers are late. `signal` aborts no later than the next timer phase.
 */
import { setMaxListeners } from 'node:events'
import { StreamClientError } from '@redis-stream-client/notifs'
import { sleep } from '../async/sleep.js'
import { startTimer } from '../async/timer.js'
import type { Clock, Instant } from '../decisions/clock.js'
import { type ConsumerName, formatConsumer } from '../decisions/consumer-name.js'
import { Trust } from '../decisions/trust.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { CommandDeadline } from '../redis/connection.js'
import { isReply, isTransient, messageOf } from '../redis/redis-errors.js'

/** Each try to extend the key has this share of the TTL to be answered. */
export const HEARTBEATS_PER_TTL = 4
/** Why a session is over whose heartbeat key somebody else has. */
export const KEY_LOST = 'its heartbeat key holds another value or none'
const RETRY_PAUSES_PER_TTL = 40
const LEAST_TRY_MS = 50

export interface SessionContext {
  /** Sends one heartbeat. Resolves with false if the key holds something else; rejects if nobody has answered in time. */
  readonly extend: (deadline: CommandDeadline) => Promise<boolean>
  readonly heartbeatTtlMs: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  /** What keeps the connection away, null if nothing does. */
  readonly problem: () => string | null
  /** See Session. */
  readonly formerTokens?: readonly string[]
}

export class Session implements ConsumerName {
  readonly clientId: string
  readonly token: string
  /** The session's name in the group. */
  readonly consumer: string
  /** Tokens of earlier sessions of this process: their streams were not left by a crash. */
  readonly formerTokens: readonly string[]
  readonly trust: Trust
  readonly #context: SessionContext
  readonly #beganAt: Instant
  readonly #controller = new AbortController()
  #trustTimer: NodeJS.Timeout | undefined
  /** What Redis has answered to the last heartbeats instead of extending the key. */
  #refusal: string | null = null

  constructor(name: ConsumerName, beganAt: Instant, context: SessionContext) {
    this.clientId = name.clientId
    this.token = name.token
    this.consumer = formatConsumer(name)
    this.formerTokens = context.formerTokens ?? []
    this.#context = context
    this.#beganAt = beganAt
    this.trust = new Trust(context.heartbeatTtlMs, context.clock, beganAt)
    setMaxListeners(0, this.signal) // every wait for an answer
    this.#watchTrust()
  }

  /** How long ago its key was asked for. */
  get ageMs(): number {
    return this.#since(this.#beganAt)
  }

  /** True while this session may act. */
  isHeld(): boolean {
    return !this.#controller.signal.aborted && this.trust.leftMs() > 0
  }

  /** Aborts when the session has ended; its reason says why. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Ends the session: from this moment on nothing is done in its name. Safe twice; the first reason counts. */
  end(why: string): void {
    clearTimeout(this.#trustTimer)
    this.#controller.abort(
      new StreamClientError('SESSION_LOST', `the session is over: ${why}`, { client: this.clientId }),
    )
  }

  /** Sends heartbeats until the session has ended. */
  async keep(): Promise<void> {
    const intervalMs = this.#context.heartbeatTtlMs / HEARTBEATS_PER_TTL
    let sentAtMs = this.#beganAt.monotonicMs
    while (!this.signal.aborted) {
      await sleep(Math.max(0, sentAtMs + intervalMs - this.#context.clock.now().monotonicMs), this.signal)
      sentAtMs = await this.#beat(intervalMs)
    }
  }

  /** One heartbeat, tried until it is answered or the session has ended. Answers when the last try was sent. */
  async #beat(intervalMs: number): Promise<number> {
    const { clock, logger, recorder } = this.#context
    for (let tries = 0; ; tries++) {
      const sentAt = clock.now()
      if (this.signal.aborted) return sentAt.monotonicMs
      try {
        const isOurs = await this.#context.extend({
          timeoutMs: Math.max(intervalMs, LEAST_TRY_MS),
          timeoutOrigin: `a quarter of heartbeatTtlMs, which is ${this.#context.heartbeatTtlMs}`,
        })
        this.#refusal = null
        const isInTime = isOurs && !this.signal.aborted && this.trust.renew(sentAt)
        const outcome = isInTime ? 'extended' : isOurs ? 'late' : 'lost'
        recorder.heartbeat({ outcome, durationMs: this.#since(sentAt), trustLeftMs: this.trust.leftMs() })
        if (outcome === 'lost') this.end(KEY_LOST)
        if (outcome === 'late') this.end('its heartbeat was answered after trust had ended')
        return sentAt.monotonicMs
      } catch (error) {
        const trustLeftMs = this.trust.leftMs()
        recorder.heartbeat({ outcome: 'failed', durationMs: this.#since(sentAt), trustLeftMs })
        if (isReply(error)) this.#refusal = messageOf(error)
        const facts = { error: messageOf(error), tries, trustLeftMs }
        if (!isTransient(error) && tries === 0) logger.warn(facts, 'Redis refuses heartbeats')
        else logger.debug(facts, 'a heartbeat failed')
        if (tries > 0) {
          const pauseMs = this.#context.heartbeatTtlMs / RETRY_PAUSES_PER_TTL
          await sleep(pauseMs * (0.5 + Math.random()), this.signal)
        }
      }
    }
  }

  #watchTrust(): void {
    const leftMs = this.trust.leftMs()
    if (leftMs <= 0) {
      const problem = this.#context.problem() ?? this.#refusal
      this.end(`no heartbeat was answered in time${problem === null ? '' : `: ${problem}`}`)
    } else {
      this.#trustTimer = startTimer(Math.ceil(leftMs), () => this.#watchTrust())
    }
  }

  #since(start: Instant): number {
    return this.#context.clock.now().monotonicMs - start.monotonicMs
  }
}
