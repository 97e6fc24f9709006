/**
 * The truth about who is dead, and who has to be told. Hints get lost; every `probeIntervalMs` one client looks: it
 * wins the round by a key with a TTL, reads the heartbeat keys of all consumers, and once more those about to end, 2 ms
 * after their end (reading a key past its TTL makes Redis publish `expired` at once). Consumers that left entries are
 * published with the level, again and again while their pending count stands still, ever more seldom.
 *
 * All clients hear `expired` at the same moment. One of them looks, the others hear from it.
 */

import { sleep } from '../async/sleep.js'
import type { Clock } from '../decisions/clock.js'
import { clientIdOf } from '../decisions/consumer-name.js'
import { encodeFailoverMessage, type WaitingMessage } from '../decisions/failover-message.js'
import { KeyedBackoff } from '../decisions/keyed-backoff.js'
import { offerOf } from '../decisions/offer.js'
import { type FoundLevel, formatFoundLevel, isDamped, levelOf } from '../decisions/water-level.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { Connection } from '../redis/connection.js'
import { isReply, messageOf } from '../redis/redis-errors.js'
import { hasLeftEntries, type RosterLine, type ServiceScripts } from '../redis/service-scripts.js'
import type { ServiceKeys } from '../service-keys.js'
import { type Agent, type AgentContext, repeat, reportFailure } from './agent.js'
import type { FleetView } from './fleet-view.js'

const ROUND_SHARE_OF_INTERVAL = 0.8
const AFTER_END_MS = 2
/** Pause before the roster is read after a hint: another client may be faster, and hints arrive in bursts. */
const LEAST_HINT_PAUSE_MS = 10
const GREATEST_HINT_PAUSE_MS = 50
/** How long the winner of a probe after a hint keeps the others from one. They try once more after SECOND_TRY_MS. */
const HINT_PROBE_MS = 250
const SECOND_TRY_MS = 300
/**
 * How many dead consumers are announced at once: so many, or as many as make so many messages, counting each client that
 * may receive one, or a share of all. When many die at once, the next sessions of their clients take back most of what
 * was left.
 */
const TOLD_AT_ONCE = 16
const MESSAGES_AT_ONCE = 4000
const SHARE_AT_ONCE = 1 / 8
/** Pause for each consumer between two rosters of a round, so that many keys that end one by one do not keep Redis busy. */
const PAUSE_PER_CONSUMER_MS = 0.05
/** The level is written again when it has changed by so much, or half of its time is over. */
const LEVEL_SHARE = 0.02
const LEVEL_ROUNDS = 4
const LEAST_LEVEL_MS = 1000

export interface ProbeContext extends AgentContext {
  readonly scripts: ServiceScripts
  readonly connection: Connection
  readonly keys: ServiceKeys
  readonly probeIntervalMs: number
  readonly lbsIdleTimeMs: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  readonly view: FleetView
  readonly onWaiting: (message: WaitingMessage) => void
  /** Called every round, won or not. */
  readonly onRound: (signal: AbortSignal) => Promise<void>
  /** Called by the winner of a round, before it watches for ends, with how many entries nobody has read. */
  readonly onRoster: (roster: readonly RosterLine[], undelivered: number) => Promise<unknown>
  /** Called with the roster by the winner of a round. */
  readonly onWon: (roster: readonly RosterLine[]) => Promise<void>
}

export class Probe implements Agent {
  readonly #context: ProbeContext
  readonly #published: KeyedBackoff
  readonly #pendingOf = new Map<string, number>()
  #hintProbe: Promise<void> | undefined
  #living = ''
  #writtenLevel: FoundLevel = { level: Number.NaN, living: 0, waiting: 0, backlogLevel: null }
  #levelWrittenMs = Number.NEGATIVE_INFINITY
  #isAlone = false
  #wasRefused = false

  constructor(context: ProbeContext) {
    this.#context = context
    this.#published = new KeyedBackoff(context.probeIntervalMs, context.lbsIdleTimeMs)
  }

  /** Whether the last round found no other client alive: true for up to one interval after another has come. */
  get isAlone(): boolean {
    return this.#isAlone
  }

  async run(): Promise<void> {
    const { logger, onRound, probeIntervalMs, signal } = this.#context
    await repeat('probe', signal, logger, async () => {
      const startMs = this.#nowMs()
      await onRound(signal)
      await this.#round()
      await sleep(Math.max(0, startMs + probeIntervalMs - this.#nowMs()), signal)
    })
    await this.#hintProbe
  }

  /** A heartbeat key is gone. One probe of this client is enough for all hints that come meanwhile. */
  hearExpired(): void {
    const { logger, session, signal } = this.#context
    if (this.#hintProbe !== undefined || signal.aborted) return
    this.#hintProbe = this.#probeAfterHint()
      .catch((error: unknown) => {
        if (session.isHeld()) reportFailure('probe', error, logger)
      })
      .finally(() => {
        this.#hintProbe = undefined
      })
  }

  /** A client that loses tries once more, because the winner may have looked before the last key ended. */
  async #probeAfterHint(): Promise<void> {
    const { keys, scripts, session, signal } = this.#context
    const spreadMs = GREATEST_HINT_PAUSE_MS - LEAST_HINT_PAUSE_MS
    for (const pauseMs of [LEAST_HINT_PAUSE_MS + spreadMs * Math.random(), SECOND_TRY_MS]) {
      await sleep(pauseMs, signal)
      if (signal.aborted) return
      const answer = await scripts.probe(session.clientId, HINT_PROBE_MS, keys.hintProbe)
      if ('lines' in answer) return void (await this.#tellAll(answer.lines, { isRound: false }))
    }
  }

  async #round(): Promise<void> {
    const { onRoster, onWon, probeIntervalMs, recorder, scripts, session, signal, view } = this.#context
    const startMs = this.#nowMs()
    const roundMs = Math.max(1, Math.floor(probeIntervalMs * ROUND_SHARE_OF_INTERVAL))
    const answer = await scripts.probe(session.clientId, roundMs)
    if ('level' in answer) {
      this.#isAlone = false
      view.hear(answer.level)
      return
    }
    const { lines, undelivered } = answer
    this.#isAlone = lines.every((line) => !line.isAlive || line.consumer === session.consumer)
    const dead = await this.#tellAll(lines, { isRound: true })
    const found = view.read(lines, undelivered)
    const { waiting } = found
    recorder.probe({ consumers: lines.length, dead, waiting, durationMs: this.#nowMs() - startMs })
    await this.#writeLevel(found)
    await onRoster(lines, undelivered)
    await this.#watchEnds(lines, startMs + probeIntervalMs)
    if (!signal.aborted) await onWon(lines)
  }

  /** Looks again at heartbeat keys that will run out before the next round, just after they have. */
  async #watchEnds(roster: readonly RosterLine[], untilMs: number): Promise<void> {
    const { scripts, signal } = this.#context
    for (let lines = roster; !signal.aborted; ) {
      const nextEndMs = Math.min(...lines.filter((line) => line.ttlMs >= 0).map((line) => line.ttlMs))
      if (this.#nowMs() + nextEndMs > untilMs) return
      await sleep(Math.max(nextEndMs + AFTER_END_MS, lines.length * PAUSE_PER_CONSUMER_MS), signal)
      lines = await scripts.roster({ withEnds: true })
      await this.#tellAll(lines, { isRound: false })
    }
  }

  /**
   * Announces the consumers under which entries wait, unless that was done recently. Where there are too many, each round
   * announces some. Answers how many there are.
   */
  async #tellAll(roster: readonly RosterLine[], { isRound }: { readonly isRound: boolean }): Promise<number> {
    const { onWaiting } = this.#context
    const returned = this.#returned(roster)
    const waiting = roster.filter(
      (line) => hasLeftEntries(line) && line.opensInMs <= 0 && !returned.has(clientIdOf(line.consumer)),
    )
    this.#forgetOthers(roster, waiting)
    const due = waiting.filter(({ consumer, pending }) => {
      if (this.#pendingOf.get(consumer) !== pending) this.#published.forget(consumer)
      this.#pendingOf.set(consumer, pending)
      return this.#published.isDue(consumer, this.#nowMs())
    })
    const most = mostAtOnce(roster, due.length)
    if (due.length > most && !isRound) return waiting.length
    const told = sample(due, most)
    for (const { consumer } of told) this.#published.note(consumer, this.#nowMs())
    const messages = messagesOf(told, roster)
    for (const message of messages) onWaiting(message)
    await Promise.all(messages.map((message) => this.#publish(encodeFailoverMessage(message))))
    return waiting.length
  }

  /** Clients whose session has just begun: they are taking back what their earlier sessions have left. */
  #returned(roster: readonly RosterLine[]): Set<string> {
    const { probeIntervalMs } = this.#context
    const young = roster.filter((line) => line.isAlive && line.ageMs < probeIntervalMs && !isDamped(line))
    return new Set(young.map(({ consumer }) => clientIdOf(consumer)))
  }

  /** Forgets what was announced of consumers that are gone; of all of them when clients have come or gone. */
  #forgetOthers(roster: readonly RosterLine[], waiting: readonly RosterLine[]): void {
    const living = roster.flatMap((line) => (line.isAlive ? [line.consumer] : [])).join(' ')
    const isChanged = living !== this.#living
    this.#living = living
    const names = new Set(waiting.map((line) => line.consumer))
    for (const consumer of this.#pendingOf.keys()) {
      if (names.has(consumer) && !isChanged) continue
      this.#pendingOf.delete(consumer)
      this.#published.forget(consumer)
    }
  }

  /** For clients that give streams back, or read a backlog, and have read no roster. */
  async #writeLevel(fleet: FoundLevel): Promise<void> {
    const { connection, keys, probeIntervalMs } = this.#context
    const ttlMs = Math.max(LEVEL_ROUNDS * probeIntervalMs, LEAST_LEVEL_MS)
    const before = this.#writtenLevel
    const isSame =
      fleet.living === before.living &&
      fleet.waiting === before.waiting &&
      isNear(fleet.level, before.level) &&
      isNear(fleet.backlogLevel ?? -1, before.backlogLevel ?? -1)
    if (isSame && this.#nowMs() < this.#levelWrittenMs + ttlMs / 2) return
    await connection.run((redis) => redis.set(keys.level, formatFoundLevel(fleet), 'PX', ttlMs))
    this.#writtenLevel = fleet
    this.#levelWrittenMs = this.#nowMs()
  }

  /** Only a hint. A client that is not allowed to publish still takes what waits in the rounds it wins itself. */
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

function isNear(level: number, before: number): boolean {
  return level === before || Math.abs(level - before) < LEVEL_SHARE * before
}

/** How many consumers may be announced at once. The clients of those that are dead now may be back when they hear of it. */
function mostAtOnce(roster: readonly RosterLine[], due: number): number {
  const listeners = roster.filter((line) => line.isAlive).length + due
  return Math.max(TOLD_AT_ONCE, Math.floor(MESSAGES_AT_ONCE / listeners), Math.ceil(due * SHARE_AT_ONCE))
}

function messagesOf(told: readonly RosterLine[], roster: readonly RosterLine[]): WaitingMessage[] {
  const { level: fill, firstLevel, living } = offerOf(roster)
  const common = {
    type: 'waiting',
    level: numberOrNull(levelOf(roster).level),
    living,
    fill: numberOrNull(fill),
    firstLevel,
    waiting: roster.reduce((sum, line) => sum + (line.isAlive ? 0 : line.pending), 0),
  } as const
  return told.map(({ consumer, pending }) => ({ ...common, consumer, pending }))
}

/** As a message has it: JSON has no Infinity. */
function numberOrNull(level: number): number | null {
  return level === Number.POSITIVE_INFINITY ? null : level
}

/** Some of the items, each as likely as any other. */
function sample<T>(items: readonly T[], count: number): T[] {
  const rest = [...items]
  if (rest.length <= count) return rest
  return Array.from({ length: count }, () => rest.splice(Math.floor(Math.random() * rest.length), 1)[0] as T)
}
