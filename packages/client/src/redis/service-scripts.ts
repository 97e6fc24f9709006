/**
 * The scripts of a service, typed. lua/*.lua say what each does and answers. All are safe to send again.
 * A call takes at most BATCH_LIMIT streams, and moves a bounded number of bytes, so that none keeps Redis from its other
 * clients for long. A script that has spent its bytes answers only for the first of what it was given: `take` and `bury`
 * then answer with fewer, and the caller sends the rest; the others send the rest themselves.
 */
import { type ConsumerName, POOL } from '../decisions/consumer-name.js'
import { encodeFailoverMessage } from '../decisions/failover-message.js'
import { formatMemberFacts, type Member, type MemberFacts, parseMember } from '../decisions/member-facts.js'
import { decodePlan, encodePlan, type RebalancePlan } from '../decisions/rebalance-plan.js'
import { type FleetLevel, formatLevel } from '../decisions/water-level.js'
import type { ServiceKeys } from '../service-keys.js'
import type { Connection } from './connection.js'
import type { RawEntry } from './lbs.js'
import * as lua from './lua.generated.js'
import { isReply } from './redis-errors.js'
import { ReplicatedWrites, type ReplicaWait } from './replicated-writes.js'
import { Script } from './script.js'

export const BATCH_LIMIT = 50
/** A consumer without pending entries that has not read for so long is dead. Many times the BLOCK of a read. */
export const SILENT_MS = 60_000
/** What clients of a service have in common: keys, scripts and messages. Counts up when one of them changes meaning. */
export const PROTOCOL = '1'

const scripts = {
  take: new Script(lua.takeLua),
  finish: new Script(lua.finishLua),
  release: new Script(lua.releaseLua),
  commit: new Script(lua.commitLua),
  confirm: new Script(lua.confirmLua),
  bury: new Script(lua.buryLua),
  buryCopied: new Script(lua.buryCopiedLua),
  deal: new Script(lua.dealLua),
  beginSession: new Script(lua.beginSessionLua),
  endSession: new Script(lua.endSessionLua),
  roster: new Script(lua.rosterLua),
  probe: new Script(lua.probeLua),
  sweep: new Script(lua.sweepLua),
  removeConsumers: new Script(lua.removeConsumersLua),
  forgetMembers: new Script(lua.forgetMembersLua),
  plan: new Script(lua.planLua),
}

/** How many replicas have to have what owners write, and how long to wait for them. */
export interface Replicas extends ReplicaWait {
  /** Called after each wait. */
  readonly onAnswer: (operation: string, acknowledged: number, waitError: Error | null) => void
}

export interface ScriptSettings {
  readonly silentMs?: number
  /** What owners write is waited for. Default: it is not. */
  readonly replicas?: Replicas | null
  /** Greatest number of dead letters, about. Default: no limit. */
  readonly deadLetterMaxLen?: number
}

/** An entry and the data stream it names. */
export interface Assignment {
  readonly id: string
  readonly dataStreamName: string
  /** Greatest fence the client knew before it asked for this entry. Its own record with no greater one is an old one. */
  readonly knownFence: number
}

/** One ownership of a data stream: from being taken to being finished, given back or lost. */
export interface Tenure {
  readonly idInLbs: string
  readonly dataStreamName: string
  readonly fencingToken: number
}

/** `acquire`: entries this session has read. `dealt`: entries dealt to it. `claim`: entries of others. */
export type TakeMode = 'acquire' | 'dealt' | 'claim'

export interface TakeRules {
  readonly mode: TakeMode
  readonly maxCrashes: number
  readonly crashWindowMs: number
  readonly lbsIdleTimeMs: number
  /** Tokens of earlier sessions of this process: taking back from them counts no crash. */
  readonly formerTokens: readonly string[]
}

export type TakeAnswer =
  | {
      status: 'TAKEN'
      fencingToken: number
      /** Number of the last commit under this fence: more than 0 only if an earlier answer was lost. */
      commits: number
      recovered: boolean
      checkpoint: string | null
    }
  | { status: 'DEAD'; reason: string; error: string }
  | {
      status: 'GONE'
      /** The session's own: its entry has left the LBS, and its stream waits to be freed. */
      fencingToken?: number
    }
  | { status: 'CLAIMED' | 'QUEUED' | 'LEFT' }

/** `BEHIND`: as OK, but too few replicas have it yet. */
export type ChangeAnswer = 'OK' | 'BEHIND' | 'NOT_OWNED' | 'SESSION_LOST'
export type ConfirmAnswer = 'OURS' | 'LOST' | 'GONE'
export type BuryAnswer = 'BURIED' | 'GONE' | 'LEFT'
export type RemoveConsumerAnswer = 'REMOVED' | 'ALIVE' | 'PENDING'

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
  readonly settleMs: number
  readonly moves: number
  readonly standsMs: number
  readonly isForced: boolean
}

export interface ReleaseRules {
  /** What the others are told; null for what the winner of the last round has found. */
  readonly level?: FleetLevel | null
  readonly pool?: string
  readonly ownMs?: number
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

/** Whether a dead consumer has left entries behind. */
export function hasLeftEntries(line: RosterLine): boolean {
  return !line.isAlive && line.pending > 0
}

type RawTakeAnswer =
  | [status: 'TAKEN', fence: string, commits: number, recovered: number, checkpoint: string | null]
  | [status: 'DEAD', reason: string, error: string]
  | [status: 'GONE', fence?: string]
  | [status: Exclude<TakeAnswer['status'], 'TAKEN' | 'DEAD' | 'GONE'>]
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

export class ServiceScripts {
  readonly #connection: Connection
  readonly #keys: ServiceKeys
  readonly #silentMs: number
  readonly #replicas: (Replicas & { readonly writes: ReplicatedWrites }) | null
  readonly #deadLetterMaxLen: string

  constructor(connection: Connection, keys: ServiceKeys, settings: ScriptSettings = {}) {
    this.#connection = connection
    this.#keys = keys
    this.#silentMs = settings.silentMs ?? SILENT_MS
    const { deadLetterMaxLen = Number.POSITIVE_INFINITY, replicas = null } = settings
    this.#replicas = replicas && { ...replicas, writes: new ReplicatedWrites(connection, replicas) }
    this.#deadLetterMaxLen = Number.isFinite(deadLetterMaxLen) ? String(deadLetterMaxLen) : ''
  }

  /** Answers for at least the first of the assignments; those it does not answer for have to be sent again. */
  async take(
    { clientId, token }: ConsumerName,
    assignments: readonly Assignment[],
    rules: TakeRules,
  ): Promise<'SESSION_LOST' | TakeAnswer[]> {
    const keys = this.#keys
    const { answer: answers } = await this.#write<'SESSION_LOST' | RawTakeAnswer[]>(
      'take',
      scripts.take,
      [
        keys.lbs,
        keys.heartbeat(clientId),
        keys.locks,
        keys.fence,
        keys.checkpoints,
        keys.dead,
        keys.heartbeatPrefix,
        ...this.#backlogs(assignments),
      ],
      [
        keys.group,
        clientId,
        token,
        rules.mode,
        String(rules.maxCrashes),
        String(rules.crashWindowMs),
        String(rules.lbsIdleTimeMs),
        rules.formerTokens.join(' '),
        this.#deadLetterMaxLen,
        ...assignments.flatMap((each) => [each.id, each.dataStreamName, String(each.knownFence)]),
      ],
    )
    return answers === 'SESSION_LOST' ? answers : answers.map(readTakeAnswer)
  }

  finish(
    { clientId, token }: ConsumerName,
    tenures: readonly (Tenure & { readonly keepCheckpoint: boolean })[],
  ): Promise<ChangeAnswer[]> {
    const keys = this.#keys
    return inParts(tenures, (part) =>
      this.#change(
        'done',
        scripts.finish,
        [keys.lbs, keys.heartbeat(clientId), keys.locks, keys.checkpoints, ...this.#backlogs(part)],
        [
          keys.group,
          clientId,
          token,
          ...part.flatMap((each) => [...tenureArgs(each), each.keepCheckpoint ? '1' : '0']),
        ],
      ),
    )
  }

  /**
   * Gives streams back: the others are told in the same step. They go to a pool, or with `ownMs` to where this client is
   * not given them again for so long.
   */
  release(
    { clientId, token }: ConsumerName,
    tenures: readonly Tenure[],
    { level = null, pool = POOL, ownMs }: ReleaseRules = {},
  ): Promise<ChangeAnswer[]> {
    const keys = this.#keys
    return this.#change(
      'release',
      scripts.release,
      [
        keys.heartbeat(clientId),
        keys.locks,
        keys.lbs,
        keys.level,
        keys.checkpoints,
        ...this.#backlogs(tenures),
      ],
      [
        clientId,
        token,
        keys.group,
        keys.failoverChannel,
        ownMs === undefined ? pool : String(ownMs),
        formatLevel(level),
        ...tenures.flatMap(tenureArgs),
      ],
    )
  }

  commit(
    { clientId, token }: ConsumerName,
    commits: readonly { readonly tenure: Tenure; readonly number: number; readonly checkpoint: string }[],
  ): Promise<ChangeAnswer[]> {
    const keys = this.#keys
    return this.#change(
      'commit',
      scripts.commit,
      [keys.heartbeat(clientId), keys.locks, keys.checkpoints],
      [
        clientId,
        token,
        ...commits.flatMap((each) => [...tenureArgs(each.tenure), String(each.number), each.checkpoint]),
      ],
    )
  }

  confirm(
    { clientId, token }: ConsumerName,
    tenures: readonly Tenure[],
  ): Promise<'SESSION_LOST' | ConfirmAnswer[]> {
    const keys = this.#keys
    return inParts(tenures, (part) =>
      this.#run<'SESSION_LOST' | ConfirmAnswer[]>(
        scripts.confirm,
        [keys.lbs, keys.heartbeat(clientId), keys.locks],
        [keys.group, clientId, token, ...part.flatMap(tenureArgs)],
      ),
    )
  }

  /** Answers for at least the first of the entries; those it does not answer for have to be sent again. */
  bury(
    { clientId, token }: ConsumerName,
    entries: readonly { readonly id: string; readonly reason: string; readonly problem: string }[],
  ): Promise<'SESSION_LOST' | BuryAnswer[]> {
    const keys = this.#keys
    return this.#run(
      scripts.bury,
      [keys.lbs, keys.heartbeat(clientId), keys.dead, keys.heartbeatPrefix],
      [
        keys.group,
        clientId,
        token,
        this.#deadLetterMaxLen,
        ...entries.flatMap((each) => [each.id, each.reason, each.problem]),
      ],
    )
  }

  /** Removes an entry of which there is a copy in the dead letters. */
  buryCopied({ clientId, token }: ConsumerName, id: string): Promise<'SESSION_LOST' | BuryAnswer> {
    const keys = this.#keys
    return this.#run(
      scripts.buryCopied,
      [keys.lbs, keys.heartbeat(clientId), keys.heartbeatPrefix],
      [keys.group, clientId, token, id],
    )
  }

  /** Deals this session entries that wait under a dead consumer or in the pool: nobody else is dealt them. */
  async deal(
    { clientId, token }: ConsumerName,
    from: string,
    count: number,
    rules: DealRules,
  ): Promise<Dealt> {
    const keys = this.#keys
    const raw = await this.#runInBuffers<RawDealt>(
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
    const raw = await this.#run<RawBeginning>(
      scripts.beginSession,
      [keys.lbs, keys.heartbeat(clientId), keys.members, keys.protocol],
      [keys.group, clientId, token, PROTOCOL, formatMemberFacts(facts)],
    )
    if (raw === 'SESSION_LOST') return raw
    if (raw[0] === 'PROTOCOL') return { protocol: raw[1] }
    const [, restarts, clients, namesInExcess, ...former] = raw
    return { restarts, clients, namesInExcess, former }
  }

  /**
   * Removes the heartbeat key if it still holds this token, and the consumer if it has no entries. With a level, or
   * null for that of the last round, the others are told of what is left.
   */
  async endSession(
    { clientId, token }: ConsumerName,
    tell: { readonly level: FleetLevel | null } | null,
  ): Promise<void> {
    const keys = this.#keys
    const channel = tell === null ? '' : keys.failoverChannel
    await this.#run(
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
      await this.#run<RawRoster>(scripts.roster, [keys.lbs, keys.heartbeatPrefix, keys.members], args),
    )
  }

  /**
   * Tries to win a probe, by the key of the rounds or by that of hints: the roster, or null if another client
   * has it.
   */
  async probe(
    clientId: string,
    winnerMs: number,
    key: string = this.#keys.probe,
  ): Promise<RosterLine[] | null> {
    const keys = this.#keys
    const roster = await this.#run<RawRoster | null>(
      scripts.probe,
      [keys.lbs, keys.heartbeatPrefix, keys.members, key],
      [keys.group, String(this.#silentMs), clientId, String(winnerMs)],
    )
    return roster === null ? null : readRoster(roster)
  }

  /**
   * Publishes a plan, once the same clients have been there for `settleMs`, and again while it is carried out. Answers 0,
   * or how long to wait.
   */
  async publishPlan(
    plan: RebalancePlan,
    { isForced, members, moves, settleMs, standsMs }: PlanRules,
  ): Promise<number> {
    const { failoverChannel, plan: key } = this.#keys
    const numbers = [settleMs, moves].map(String) as [string, string]
    const message = encodeFailoverMessage({ type: 'plan' })
    return await this.#run(
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
      ],
    )
  }

  /** The plan that stands now. */
  async plan(): Promise<RebalancePlan | null> {
    const text = await this.#connection.run((redis) => redis.hget(this.#keys.plan, 'plan'))
    return text === null ? null : decodePlan(text)
  }

  /** Frees those of the streams whose entry is gone and whose owner is dead or nobody; answers which. */
  async sweep(dataStreamNames: readonly string[]): Promise<string[]> {
    const { checkpoints, group, heartbeatPrefix, lbs, locks } = this.#keys
    const answers = await inParts(dataStreamNames, (part) => {
      const backlogs = this.#backlogs(part.map((dataStreamName) => ({ dataStreamName })))
      const keys = [lbs, locks, checkpoints, heartbeatPrefix, ...backlogs]
      return this.#run<number[]>(scripts.sweep, keys, [group, ...part])
    })
    return dataStreamNames.filter((_, index) => answers[index] === 1)
  }

  /** Removes those of the consumers that are dead and have nothing pending. */
  removeConsumers(consumers: readonly string[]): Promise<RemoveConsumerAnswer[]> {
    const { group, heartbeatPrefix, lbs } = this.#keys
    return this.#run(scripts.removeConsumers, [lbs, heartbeatPrefix], [group, ...consumers])
  }

  /** Forgets those of the clients that are no more; answers how many. */
  forgetMembers(clientIds: readonly string[]): Promise<number> {
    const { group, heartbeatPrefix, lbs, members } = this.#keys
    return this.#run(scripts.forgetMembers, [lbs, heartbeatPrefix, members], [group, ...clientIds])
  }

  /** Reads what all streams share. Rejects with what Redis says where a key is foreign. */
  async readShared(): Promise<void> {
    const { checkpoints, dead, fence, locks } = this.#keys
    await this.#connection.run(async (redis) => {
      await redis.hget(locks, '')
      await redis.hget(checkpoints, '')
      await redis.get(fence)
      await redis.xrange(dead, '-', '+', 'COUNT', 1)
    })
  }

  /** Whether keys of this data stream alone hold something that no client has written. */
  async isDamaged(dataStreamName: string): Promise<boolean> {
    const keys = this.#keys
    return await this.#connection.run(async (redis) => {
      const record = await redis.hget(keys.locks, dataStreamName)
      if (record !== null && !/^(\S+ ){5}/.test(record)) return true
      try {
        // Nothing is read: both only have to be of the right type.
        await redis.lindex(keys.backlog(dataStreamName), Number.MAX_SAFE_INTEGER)
        await redis.zrange(keys.late(dataStreamName), '1', '0')
        return false
      } catch (error) {
        if (isReply(error, 'WRONGTYPE')) return true
        throw error
      }
    })
  }

  /** Both keys of each backlog. */
  #backlogs(streams: readonly { readonly dataStreamName: string }[]): string[] {
    return streams.flatMap(({ dataStreamName }) => [
      this.#keys.backlog(dataStreamName),
      this.#keys.late(dataStreamName),
    ])
  }

  /** Runs a script that changes what owners hold; says so where too few replicas have it. */
  async #change(
    operation: string,
    script: Script,
    keys: readonly string[],
    args: readonly string[],
  ): Promise<ChangeAnswer[]> {
    const { answer, isBehind } = await this.#write<ChangeAnswer[]>(operation, script, keys, args)
    return isBehind ? answer.map((each) => (each === 'OK' ? 'BEHIND' : each)) : answer
  }

  async #write<T>(
    operation: string,
    script: Script,
    keys: readonly string[],
    args: readonly string[],
  ): Promise<{ answer: T; isBehind: boolean }> {
    const replicas = this.#replicas
    if (replicas === null) return { answer: await this.#run<T>(script, keys, args), isBehind: false }
    const { answer, acknowledged, waitError } = await replicas.writes.run(script, keys, args)
    replicas.onAnswer(operation, acknowledged, waitError)
    return { answer: answer as T, isBehind: acknowledged < replicas.count }
  }

  async #runInBuffers<T>(script: Script, keys: readonly string[], args: readonly string[]): Promise<T> {
    return (await this.#connection.run((redis) => script.run(redis, keys, args, { inBuffers: true }))) as T
  }

  /** The one place that trusts the answer of a script to have the shape its header describes. */
  async #run<T>(script: Script, keys: readonly string[], args: readonly string[]): Promise<T> {
    return (await this.#connection.run((redis) => script.run(redis, keys, args))) as T
  }
}

/** Sends again what a script has not answered for, until it has answered for all or answers with one word. */
async function inParts<T, A extends readonly unknown[] | string>(
  items: readonly T[],
  send: (part: readonly T[]) => Promise<A>,
): Promise<A> {
  const answers: unknown[] = []
  do {
    const part = await send(items.slice(answers.length))
    if (typeof part === 'string') return part
    if (part.length === 0 && items.length > 0) {
      throw new TypeError('a script that answers for nothing of what it was given')
    }
    for (const answer of part) answers.push(answer)
  } while (answers.length < items.length)
  return answers as unknown as A
}

function tenureArgs(tenure: Tenure): [string, string, string] {
  return [tenure.dataStreamName, tenure.idInLbs, String(tenure.fencingToken)]
}

function readTakeAnswer(raw: RawTakeAnswer): TakeAnswer {
  if (raw[0] === 'DEAD') return { status: 'DEAD', reason: raw[1], error: raw[2] }
  if (raw[0] === 'GONE') {
    return raw[1] === undefined ? { status: 'GONE' } : { status: 'GONE', fencingToken: Number(raw[1]) }
  }
  if (raw[0] !== 'TAKEN') return { status: raw[0] }
  return {
    status: 'TAKEN',
    fencingToken: Number(raw[1]),
    commits: raw[2],
    recovered: raw[3] === 1,
    checkpoint: raw[4],
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
