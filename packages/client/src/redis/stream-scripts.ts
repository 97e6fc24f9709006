/** The scripts that take, change and free streams, typed. lua/*.lua say what each does and answers. */
import { type ConsumerName, POOL } from '../decisions/consumer-name.js'
import { type FleetLevel, formatLevel } from '../decisions/water-level.js'
import type { ServiceKeys } from '../service-keys.js'
import type { Connection } from './connection.js'
import * as lua from './lua.generated.js'
import { isReply } from './redis-errors.js'
import { Script } from './script.js'
import { inParts, type Replicas, ScriptCalls } from './script-calls.js'

const scripts = {
  take: new Script(lua.takeLua),
  finish: new Script(lua.finishLua),
  release: new Script(lua.releaseLua),
  commit: new Script(lua.commitLua),
  confirm: new Script(lua.confirmLua),
  bury: new Script(lua.buryLua),
  buryCopied: new Script(lua.buryCopiedLua),
  sweep: new Script(lua.sweepLua),
}

export interface StreamScriptSettings {
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
      /** The last owner crashed or hung, and was no earlier session of this process. */
      ownerFell: boolean
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

export interface ReleaseRules {
  /** What the others are told; null for what the winner of the last round has found. */
  readonly level?: FleetLevel | null
  readonly pool?: string
  readonly ownMs?: number
}

type RawTakeAnswer =
  | [status: 'TAKEN', fence: string, commits: number, recovered: number, checkpoint: string | null]
  | [status: 'DEAD', reason: string, error: string]
  | [status: 'GONE', fence?: string]
  | [status: Exclude<TakeAnswer['status'], 'TAKEN' | 'DEAD' | 'GONE'>]

export class StreamScripts {
  readonly #connection: Connection
  readonly #keys: ServiceKeys
  readonly #calls: ScriptCalls
  readonly #deadLetterMaxLen: string

  constructor(connection: Connection, keys: ServiceKeys, settings: StreamScriptSettings = {}) {
    this.#connection = connection
    this.#keys = keys
    const { deadLetterMaxLen = Number.POSITIVE_INFINITY, replicas = null } = settings
    this.#calls = new ScriptCalls(connection, replicas)
    this.#deadLetterMaxLen = Number.isFinite(deadLetterMaxLen) ? String(deadLetterMaxLen) : ''
  }

  /** Answers for at least the first of the assignments; those it does not answer for have to be sent again. */
  async take(
    { clientId, token }: ConsumerName,
    assignments: readonly Assignment[],
    rules: TakeRules,
  ): Promise<'SESSION_LOST' | TakeAnswer[]> {
    const keys = this.#keys
    const { answer: answers } = await this.#calls.write<'SESSION_LOST' | RawTakeAnswer[]>(
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
      this.#calls.run<'SESSION_LOST' | ConfirmAnswer[]>(
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
    return this.#calls.run(
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
    return this.#calls.run(
      scripts.buryCopied,
      [keys.lbs, keys.heartbeat(clientId), keys.heartbeatPrefix],
      [keys.group, clientId, token, id],
    )
  }

  /** Frees those of the streams whose entry is gone and whose owner is dead or nobody; answers which. */
  async sweep(dataStreamNames: readonly string[]): Promise<string[]> {
    const { checkpoints, group, heartbeatPrefix, lbs, locks } = this.#keys
    const answers = await inParts(dataStreamNames, (part) => {
      const backlogs = this.#backlogs(part.map((dataStreamName) => ({ dataStreamName })))
      const keys = [lbs, locks, checkpoints, heartbeatPrefix, ...backlogs]
      return this.#calls.run<number[]>(scripts.sweep, keys, [group, ...part])
    })
    return dataStreamNames.filter((_, index) => answers[index] === 1)
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
    const { answer, isBehind } = await this.#calls.write<ChangeAnswer[]>(operation, script, keys, args)
    return isBehind ? answer.map((each) => (each === 'OK' ? 'BEHIND' : each)) : answer
  }
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
    recovered: raw[3] > 0,
    ownerFell: raw[3] === 2,
    checkpoint: raw[4],
  }
}
