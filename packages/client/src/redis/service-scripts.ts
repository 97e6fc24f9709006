/**
 * The scripts of a service, typed. lua/*.lua say what each does and answers. All are safe to send again.
 * A call takes at most BATCH_LIMIT streams, and moves a bounded number of bytes, so that none keeps Redis from its other
 * clients for long. A script that has spent its bytes answers only for the first of what it was given: `take` and `bury`
 * then answer with fewer, and the caller sends the rest; the others send the rest themselves.
 */
import type { ConsumerName } from '../decisions/consumer-name.js'
import { encodeFailoverMessage } from '../decisions/failover-message.js'
import { formatMemberFacts, type Member, type MemberFacts, parseMember } from '../decisions/member-facts.js'
import type { Offer } from '../decisions/offer.js'
import { decodePlan, encodePlan, type RebalancePlan } from '../decisions/rebalance-plan.js'
import { type FleetLevel, formatLevel, parseFoundLevel } from '../decisions/water-level.js'
import type { ServiceKeys } from '../service-keys.js'
import type { Connection } from './connection.js'
import type { RawEntry } from './lbs.js'
import * as lua from './lua.generated.js'
import { Script } from './script.js'
import { ScriptCalls } from './script-calls.js'
import { type StreamScriptSettings, StreamScripts } from './stream-scripts.js'

export const BATCH_LIMIT = 50
/** A consumer without pending entries that has not read for so long is dead. Many times the BLOCK of a read. */
export const SILENT_MS = 60_000
/** What clients of a service have in common: keys, scripts and messages. Counts up when one of them changes meaning. */
export const PROTOCOL = '1'

const scripts = {
  deal: new Script(lua.dealLua),
  beginSession: new Script(lua.beginSessionLua),
  endSession: new Script(lua.endSessionLua),
  roster: new Script(lua.rosterLua),
  probe: new Script(lua.probeLua),
  removeConsumers: new Script(lua.removeConsumersLua),
  forgetMembers: new Script(lua.forgetMembersLua),
  plan: new Script(lua.planLua),
}

export interface ScriptSettings extends StreamScriptSettings {
  readonly silentMs?: number
}

/** A consumer of the group. */
export interface RosterLine {
  readonly consumer: string
  readonly pending: number
  readonly isAlive: boolean
  /** What its heartbeat key has left; negative without one, or if that was not asked for. */
  readonly ttlMs: number
  /** How long what waits under a dead consumer is kept from the others: see lua/includes/waiting.lua. */
  readonly opensInMs: number
  /** What a living session has entered. */
  readonly facts: Member
  /** How long ago a living session began. */
  readonly ageMs: number
}

export type ProbeAnswer =
  | { readonly lines: RosterLine[] /** Entries that nobody has read yet. */; readonly undelivered: number }
  | { readonly level: string }

/** Which entries to deal, and to what end. See lua/deal.lua. */
export interface DealRules {
  readonly mode: 'take' | 'tell'
  /** Only entries that have waited for so long. */
  readonly idleMs: number
  /** How long the caller's application has before the others are told of the same entries. */
  readonly tellMs: number
  /** How long until the caller is told of them again. */
  readonly tellAgainMs: number
  readonly greatestMs: number
}

export interface PlanRules {
  /** Which clients there are. */
  readonly members: string
  /** How long ago the youngest of them has begun. */
  readonly youngestMs: number
  readonly settleMs: number
  readonly moves: number
  readonly standsMs: number
  readonly isForced: boolean
}

/** What a session finds when it begins. */
export interface SessionBeginning {
  /** How often sessions of its client have begun of late; the first does not count. */
  readonly restarts: number
  /** How many clients there are, about: those that have died of late are counted too. */
  readonly clients: number
  /** How many consumers the group has beyond one for each client: about as many are dead. */
  readonly namesInExcess: number
  /** Consumers of its earlier sessions that have entries pending. */
  readonly former: readonly string[]
}

export type Dealt =
  | 'SESSION_LOST'
  | {
      readonly entries: RawEntry[]
      /** How long each has waited under the consumer it was dealt from. */
      readonly waitedMs: number[]
      readonly mayBeMore: boolean
      /** How long what is asked for is kept from the caller. */
      readonly waitMs: number
      /** Entries that had left the LBS. */
      readonly gone: number
    }

export type RemoveConsumerAnswer = 'REMOVED' | 'ALIVE' | 'PENDING'

/** Whether a dead consumer has left entries behind. */
export function hasLeftEntries(line: RosterLine): boolean {
  return !line.isAlive && line.pending > 0
}

type RawRoster = [
  consumer: string,
  pending: number,
  isAlive: number,
  ms: number,
  facts: string,
  ageMs: number,
][]

type RawDealt =
  | Buffer
  | [mayBeMore: number, waitMs: number, gone: number, ...entries: [...RawEntry, waitedMs: number][]]

type RawBeginning =
  | 'SESSION_LOST'
  | ['PROTOCOL', version: string]
  | ['OK', restarts: number, clients: number, namesInExcess: number, ...former: string[]]

/** All scripts: those of streams, and those about the clients that share them. */
export class ServiceScripts extends StreamScripts {
  readonly #connection: Connection
  readonly #keys: ServiceKeys
  readonly #calls: ScriptCalls
  readonly #silentMs: number

  constructor(connection: Connection, keys: ServiceKeys, settings: ScriptSettings = {}) {
    super(connection, keys, settings)
    this.#connection = connection
    this.#keys = keys
    this.#calls = new ScriptCalls(connection)
    this.#silentMs = settings.silentMs ?? SILENT_MS
  }

  /** Deals this session entries that wait under a dead consumer or in the pool: nobody else is dealt them. */
  async deal(
    { clientId, token }: ConsumerName,
    from: string,
    count: number,
    rules: DealRules,
  ): Promise<Dealt> {
    const keys = this.#keys
    const raw = await this.#calls.runInBuffers<RawDealt>(
      scripts.deal,
      [keys.lbs, keys.heartbeat(clientId), keys.heartbeatPrefix],
      [
        keys.group,
        clientId,
        token,
        from,
        String(Math.min(count, BATCH_LIMIT)),
        rules.mode,
        ...[rules.idleMs, rules.tellMs, rules.tellAgainMs, rules.greatestMs].map(String),
      ],
    )
    if (Buffer.isBuffer(raw)) return 'SESSION_LOST'
    const [mayBeMore, waitMs, gone, ...dealt] = raw
    return {
      entries: dealt.map(([id, fields]): RawEntry => [id, fields]),
      waitedMs: dealt.map(([, , waitedMs]) => waitedMs),
      mayBeMore: mayBeMore === 1,
      waitMs,
      gone,
    }
  }

  /**
   * Begins to serve a session: makes group and consumer, enters what others need to know of it. Answers the consumers
   * of earlier sessions of its client that have entries pending, or the protocol of those who use the service.
   */
  async beginSession(
    { clientId, token }: ConsumerName,
    facts: MemberFacts,
  ): Promise<'SESSION_LOST' | SessionBeginning | { readonly protocol: string }> {
    const keys = this.#keys
    const raw = await this.#calls.run<RawBeginning>(
      scripts.beginSession,
      [keys.lbs, keys.heartbeat(clientId), keys.members, keys.protocol],
      [keys.group, clientId, token, PROTOCOL, formatMemberFacts(facts)],
    )
    if (raw === 'SESSION_LOST') return raw
    if (raw[0] === 'PROTOCOL') return { protocol: raw[1] }
    const [, restarts, clients, namesInExcess, ...former] = raw
    return { restarts, clients, namesInExcess, former }
  }

  /** The level that the winner of a round has written last, if that was not long ago. */
  async lastLevel(): Promise<FleetLevel | null> {
    return parseFoundLevel(await this.#connection.run((redis) => redis.get(this.#keys.level)))
  }

  /**
   * Removes the heartbeat key if it still holds this token, and the consumer if it has no entries. With a level, or
   * null for that of the last round, the others are told of what is left.
   */
  async endSession(
    { clientId, token }: ConsumerName,
    tell: { readonly level: FleetLevel | Offer | null } | null,
  ): Promise<void> {
    const keys = this.#keys
    const channel = tell === null ? '' : keys.failoverChannel
    await this.#calls.run(
      scripts.endSession,
      [keys.lbs, keys.heartbeat(clientId), keys.members, keys.level, keys.probe],
      [keys.group, clientId, token, channel, formatLevel(tell?.level ?? null)],
    )
  }

  /** `withEnds`: also what the heartbeat keys have left. */
  async roster({ withEnds = false }: { readonly withEnds?: boolean } = {}): Promise<RosterLine[]> {
    const keys = this.#keys
    const args = [keys.group, String(this.#silentMs), withEnds ? '1' : '0']
    return readRoster(
      await this.#calls.run<RawRoster>(scripts.roster, [keys.lbs, keys.heartbeatPrefix, keys.members], args),
    )
  }

  /**
   * Tries to win a probe, by the key of the rounds or by that of hints: what there is, or the level that the winner of
   * the last round has written if another client has it.
   */
  async probe(clientId: string, winnerMs: number, key: string = this.#keys.probe): Promise<ProbeAnswer> {
    const keys = this.#keys
    const answer = await this.#calls.run<string | [length: number, roster: RawRoster]>(
      scripts.probe,
      [keys.lbs, keys.heartbeatPrefix, keys.members, key, keys.level],
      [keys.group, String(this.#silentMs), clientId, String(winnerMs)],
    )
    if (typeof answer === 'string') return { level: answer }
    const lines = readRoster(answer[1])
    return { lines, undelivered: answer[0] - lines.reduce((sum, { pending }) => sum + pending, 0) }
  }

  /**
   * Publishes a plan, once the same clients have been there for `settleMs`, and again while it is carried out. Answers 0,
   * or how long to wait.
   */
  async publishPlan(
    plan: RebalancePlan,
    { isForced, members, moves, settleMs, standsMs, youngestMs }: PlanRules,
  ): Promise<number> {
    const { failoverChannel, plan: key } = this.#keys
    const numbers = [settleMs, moves].map(String) as [string, string]
    const message = encodeFailoverMessage({ type: 'plan' })
    return await this.#calls.run(
      scripts.plan,
      [key],
      [
        members,
        ...numbers,
        encodePlan(plan),
        String(standsMs),
        failoverChannel,
        message,
        isForced ? '1' : '0',
        String(Math.round(youngestMs)),
      ],
    )
  }

  /** The plan that stands now. */
  async plan(): Promise<RebalancePlan | null> {
    const text = await this.#connection.run((redis) => redis.hget(this.#keys.plan, 'plan'))
    return text === null ? null : decodePlan(text)
  }

  /** Removes those of the consumers that are dead and have nothing pending. */
  removeConsumers(consumers: readonly string[]): Promise<RemoveConsumerAnswer[]> {
    const { group, heartbeatPrefix, lbs } = this.#keys
    return this.#calls.run(scripts.removeConsumers, [lbs, heartbeatPrefix], [group, ...consumers])
  }

  /** Forgets those of the clients that are no more; answers how many. */
  forgetMembers(clientIds: readonly string[]): Promise<number> {
    const { group, heartbeatPrefix, lbs, members } = this.#keys
    return this.#calls.run(scripts.forgetMembers, [lbs, heartbeatPrefix, members], [group, ...clientIds])
  }
}

function readRoster(raw: RawRoster): RosterLine[] {
  return raw.map(([consumer, pending, isAlive, ms, facts, ageMs]) => ({
    consumer,
    pending,
    isAlive: isAlive === 1,
    ttlMs: isAlive === 1 ? ms : -2,
    opensInMs: isAlive === 1 ? 0 : ms,
    facts: parseMember(facts),
    ageMs,
  }))
}
