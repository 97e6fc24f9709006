/**
 * The truth about who is dead. Hints get lost; every `probeIntervalMs` one client looks: it wins the round by a key
 * with a TTL, reads the heartbeat keys of all consumers, and once more those about to end, 2 ms after their end
 * (reading a key past its TTL makes Redis publish `expired` at once). Dead consumers with pending entries are
 * published, again and again while their pending count stands still, ever more seldom.
 */

import { sleep } from '../async/sleep.js'
import type { Clock } from '../decisions/clock.js'
import { encodeFailoverMessage } from '../decisions/failover-message.js'
import { Repeats } from '../decisions/repeats.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import { formatOffer, type ReleasedStreams } from '../ownership/released-streams.js'
import type { Connection } from '../redis/connection.js'
import { isReply, messageOf } from '../redis/redis-errors.js'
import { isFallen, type RosterLine, type ServiceScripts } from '../redis/service-scripts.js'
import type { ServiceKeys } from '../service-keys.js'
import type { Session } from '../session/session.js'
import { type Agent, repeat } from './agent.js'
import type { RosterReader } from './roster-reader.js'

const ROUND_SHARE_OF_INTERVAL = 0.8
const AFTER_END_MS = 2
const OFFERS_PER_MESSAGE = 50

export interface ProbeContext {
  readonly scripts: ServiceScripts
  readonly roster: RosterReader
  readonly connection: Connection
  readonly keys: ServiceKeys
  readonly released: ReleasedStreams
  readonly probeIntervalMs: number
  readonly lbsIdleTimeMs: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  readonly onDead: (consumer: string) => void
  /** Called every round, won or not. */
  readonly onRound: (signal: AbortSignal) => Promise<void>
  /** Own streams nobody else has wanted for `lbsIdleTimeMs`, or for a round where only room was missing. */
  readonly onUnwanted: (ids: readonly string[]) => void
  /** Called with the roster by the winner of a round. */
  readonly onWon: (roster: readonly RosterLine[]) => Promise<void>
}

export class Probe implements Agent {
  readonly #context: ProbeContext
  readonly #published: Repeats
  readonly #pendingOf = new Map<string, number>()
  #isAlone = false
  #wasRefused = false

  constructor(context: ProbeContext) {
    this.#context = context
    this.#published = new Repeats(context.probeIntervalMs, context.lbsIdleTimeMs)
  }

  /** Whether the last round found no other client alive: true for up to one interval after another has come. */
  get isAlone(): boolean {
    return this.#isAlone
  }

  async run(session: Session, signal: AbortSignal): Promise<void> {
    const { logger, probeIntervalMs } = this.#context
    let isFirst = true
    await repeat('probe', signal, logger, async () => {
      const startMs = this.#nowMs()
      await this.#context.onRound(signal)
      await this.#round(session, signal, isFirst)
      isFirst = false
      await this.#offerReleased(session)
      await sleep(Math.max(0, startMs + probeIntervalMs - this.#nowMs()), signal)
    })
  }

  /**
   * The first round of a session looks whoever has won: a new client must learn what waits for it. It tells itself
   * alone: when hundreds begin at once, each publishing all dead to all would keep Redis busy for a minute.
   */
  async #round(session: Session, signal: AbortSignal, isFirst: boolean): Promise<void> {
    const { onWon, probeIntervalMs, recorder, roster: reader, scripts } = this.#context
    const startMs = this.#nowMs()
    const roundMs = Math.max(1, Math.floor(probeIntervalMs * ROUND_SHARE_OF_INTERVAL))
    const roster = isFirst ? await reader.read(session) : await scripts.probe(session.clientId, roundMs)
    this.#isAlone = roster?.every((line) => !line.isAlive || line.consumer === session.consumer) ?? false
    if (roster === null) return
    const dead = isFirst ? this.#tellOwn(roster) : await this.#tellAll(roster)
    recorder.probe({ consumers: roster.length, dead, durationMs: this.#nowMs() - startMs })
    if (!isFirst) await this.#watchEnds(roster, startMs + probeIntervalMs, signal)
    if (!signal.aborted) await onWon(roster)
  }

  /** Looks again at heartbeat keys that will run out before the next round, just after they have. */
  async #watchEnds(roster: readonly RosterLine[], untilMs: number, signal: AbortSignal): Promise<void> {
    for (let lines = roster; !signal.aborted; ) {
      const nextEndMs = Math.min(...lines.filter((line) => line.ttlMs >= 0).map((line) => line.ttlMs))
      if (this.#nowMs() + nextEndMs > untilMs) return
      await sleep(nextEndMs + AFTER_END_MS, signal)
      lines = await this.#context.scripts.roster({ withEnds: true })
      await this.#tellAll(lines)
    }
  }

  /** Tells this client of the dead consumers that have entries pending; answers how many there are. */
  #tellOwn(roster: readonly RosterLine[]): number {
    const dead = roster.filter(isFallen)
    for (const { consumer } of dead) this.#context.onDead(consumer)
    return dead.length
  }

  /** Tells everyone of them, unless that was done of late. */
  async #tellAll(roster: readonly RosterLine[]): Promise<number> {
    const { onDead } = this.#context
    const dead = roster.filter(isFallen)
    this.#forgetOthers(dead)
    for (const { consumer, pending } of dead) {
      if (this.#pendingOf.get(consumer) !== pending) this.#published.forget(consumer)
      this.#pendingOf.set(consumer, pending)
      if (!this.#published.isDue(consumer, this.#nowMs())) continue
      this.#published.say(consumer, this.#nowMs())
      onDead(consumer)
      await this.#publish(encodeFailoverMessage({ type: 'dead', consumer }))
    }
    return dead.length
  }

  #forgetOthers(dead: readonly RosterLine[]): void {
    const names = new Set(dead.map((line) => line.consumer))
    for (const consumer of this.#pendingOf.keys()) {
      if (names.has(consumer)) continue
      this.#pendingOf.delete(consumer)
      this.#published.forget(consumer)
    }
  }

  async #offerReleased(session: Session): Promise<void> {
    const { lbsIdleTimeMs, onUnwanted, probeIntervalMs, released } = this.#context
    const { ids, unwanted } = await released.waiting({
      releasedMs: lbsIdleTimeMs,
      surplusMs: probeIntervalMs,
    })
    for (let start = 0; start < ids.length; start += OFFERS_PER_MESSAGE) {
      await this.#publish(formatOffer(session.consumer, ids.slice(start, start + OFFERS_PER_MESSAGE)))
    }
    onUnwanted(unwanted)
  }

  /** A hint. Who may not publish finds what there is to take by winning a round himself. */
  async #publish(message: string): Promise<void> {
    const { connection, keys, logger } = this.#context
    try {
      await connection.run((redis) => redis.publish(keys.failoverChannel, message))
    } catch (error) {
      if (!isReply(error)) throw error
      if (!this.#wasRefused)
        logger.warn({ error: messageOf(error) }, `publishing on ${keys.failoverChannel} is refused`)
      this.#wasRefused = true
    }
  }

  #nowMs(): number {
    return this.#context.clock.now().monotonicMs
  }
}
