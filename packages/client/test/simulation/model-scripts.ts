/**
 * The scripts of lua/ restated over the model's data, with the same KEYS, ARGV and answers.
 * model-conformance.test.ts holds both together.
 */
import type { Fields, ModelData } from './model-data.js'
import { ModelError, orderOf } from './model-data.js'

/** What a script may leave out, to show that the simulation notices. */
export type ScriptWeakness =
  | 'no-owner-check'
  | 'no-fence-check'
  | 'no-backlog'
  | 'no-reservation'
  | 'deal-to-the-dead'
  | 'deal-from-the-living'
  | 'release-before-the-check'

export type Answer = string | number | null | readonly Answer[]

/** Hears what the scripts have decided. */
export interface ScriptWatch {
  taken?(stream: string, id: string, fence: number, consumer: string): void
  committed?(stream: string, fence: number, checkpoint: string): void
  finished?(stream: string, id: string, fence: number, fields: Fields): void
  /** An entry has gone to the dead letters. */
  buried?(id: string, fields: Fields): void
  /** An entry waits in a backlog. */
  queued?(stream: string, id: string): void
  /** An entry has been moved from one pending list to another without having been taken. */
  moved?(id: string, from: string, to: string, by: string): void
  /** A plan was published that says how many streams some clients keep. */
  planned?(keep: Readonly<Record<string, number>>): void
  /** A client has given streams back because others have fewer; how many it has left. */
  gaveBack?(consumer: string, left: number): void
  /** A waiting entry is in the LBS again, under a new id. */
  readded?(stream: string, originalId: string, id: string): void
}

const POOL = 'pool:0'
const POOL_OF_REBALANCED = 'pool:1'
const NAMES_AT_A_TIME = 4
const FORGOTTEN_AFTER_MS = 60_000
const FIRST_PLAN_PAUSE_MS = 1000
const GREATEST_PLAN_PAUSE_MS = 60_000
const TIMES_AS_LONG = 4
const IDLE_WINDOW = 4

interface LockRecord {
  readonly id: string
  fence: string
  readonly since: number
  crashes: number
  commits: number
  owner: string
}

/** The two keys of a backlog. */
interface Waiting {
  readonly list: string
  readonly late: string
}

/** An entry as `take` is given it. */
interface Assignment {
  readonly id: string
  readonly stream: string
  readonly knownFence: number
  readonly waiting: Waiting
}

const PADDED_ID_LENGTH = 41

type Script = (keys: readonly string[], args: readonly string[]) => Answer

export class ModelScripts {
  readonly #data: ModelData
  readonly #watch: ScriptWatch
  readonly #weakness: ScriptWeakness | null
  readonly #publish: (channel: string, message: string) => void
  readonly #scripts: Record<string, Script>

  constructor(
    data: ModelData,
    publish: (channel: string, message: string) => void,
    watch: ScriptWatch = {},
    weakness: ScriptWeakness | null = null,
    ttlShare = 1,
  ) {
    this.#data = data
    this.#publish = publish
    this.#watch = watch
    this.#weakness = weakness
    this.#scripts = {
      take: (keys, args) => this.#take(keys, args),
      finish: (keys, args) => this.#finish(keys, args),
      release: (keys, args) => this.#release(keys, args),
      commit: (keys, args) => this.#commit(keys, args),
      confirm: (keys, args) => this.#confirm(keys, args),
      bury: (keys, args) => this.#bury(keys, args),
      deal: (keys, args) => this.#deal(keys, args),
      'begin-session': (keys, args) => this.#beginSession(keys, args),
      plan: ([key], args) => this.#plan(key as string, args),
      'end-session': (keys, args) => this.#endSession(keys, args),
      roster: (keys, [group, silentMs, withEnds]) =>
        this.#roster(keys, group as string, Number(silentMs), withEnds === '1'),
      probe: (keys, args) => this.#probe(keys, args),
      sweep: (keys, args) => this.#sweep(keys, args),
      'remove-consumers': (keys, args) => this.#removeConsumers(keys, args),
      'forget-members': (keys, args) => this.#forgetMembers(keys, args),
      'lock-acquire': ([key], [token, ttlMs]) =>
        this.#lockAcquire(key as string, token as string, Number(ttlMs) * ttlShare),
      'lock-extend': ([key], [token, ttlMs]) =>
        this.#data.get(key as string) === token
          ? this.#data.pexpire(key as string, Number(ttlMs) * ttlShare)
          : 0,
      'lock-release': ([key], [token]) =>
        this.#data.get(key as string) === token ? this.#data.del(key as string) : 0,
    }
  }

  run(name: string, keys: readonly string[], args: readonly string[]): Answer {
    const script = this.#scripts[name]
    if (script === undefined) throw new RangeError(`the model has no script ${name}`)
    return script(keys, args)
  }

  #lockAcquire(key: string, token: string, ttlMs: number): number {
    if (this.#data.get(key) !== null) return 0
    this.#data.set(key, token, ttlMs)
    return 1
  }

  #beginSession(keys: readonly string[], args: readonly string[]): Answer {
    const [lbs, heartbeat, members, protocol] = keys as [string, string, string, string]
    const [group, clientId, token, version, facts] = args as [string, string, string, string, string]
    const data = this.#data
    const met = data.get(protocol)
    if (met !== null && met !== version) return ['PROTOCOL', met]
    if (data.get(heartbeat) !== token) return 'SESSION_LOST'
    if (met === null) data.set(protocol, version)
    if (!data.hasGroup(lbs, group)) data.xgroupCreate(lbs, group)
    data.xgroupCreateConsumer(lbs, group, `${clientId}:${token}`)
    const [before = '', tokens = ''] = data.hget(members, clientId)?.split(';') ?? []
    const earlier = tokens.split(' ').filter((each) => each !== '')
    const former = earlier.filter((each) => {
      if (each === token) return false
      if (this.#hasPending(lbs, group, `${clientId}:${each}`)) return true
      data.xgroupDelConsumer(lbs, group, `${clientId}:${each}`)
      return false
    })
    const [, restartsBefore, beganBefore] = / (\d+) (\d+)$/.exec(before) ?? []
    const isAgain = earlier[0] === token
    const forgotten = Math.floor((data.nowMs - Number(beganBefore)) / FORGOTTEN_AFTER_MS)
    const counted = isAgain ? Number(restartsBefore) : Math.max(0, Number(restartsBefore) + 1 - forgotten)
    const restarts = restartsBefore === undefined ? 0 : counted
    const beganMs = restartsBefore !== undefined && isAgain ? beganBefore : data.nowMs
    data.hset(members, clientId, `${facts} ${restarts} ${beganMs};${[token, ...former].join(' ')}`)
    const clients = data.hgetall(members).size
    const excess = data.xinfoConsumers(lbs, group).length - clients
    return ['OK', restarts, clients, excess, ...former.map((each) => `${clientId}:${each}`)]
  }

  #plan(key: string, args: readonly string[]): number {
    const [members, settleMs, moves, plan, standsMs, channel, message, isForced, youngestMs] = args as [
      string,
      string,
      string,
      string,
      string,
      string,
      string,
      string,
      string,
    ]
    const data = this.#data
    if (data.hget(key, 'members') !== members) {
      const beganMs = data.nowMs - Number(youngestMs)
      const isNew = beganMs > Math.max(Number(data.hget(key, 'seen') ?? 0), data.nowMs - Number(settleMs))
      data.del(key)
      data.hset(key, 'members', members)
      data.hset(key, 'since', String(isNew ? beganMs : data.nowMs))
    }
    data.hset(key, 'seen', String(data.nowMs))
    data.pexpire(key, Number(standsMs))
    const settledMs = data.nowMs - Number(data.hget(key, 'since'))
    if (settledMs < Number(settleMs)) return Number(settleMs) - settledMs
    const before = Number(data.hget(key, 'moves') ?? 0)
    const waitMs = Number(data.hget(key, 'next') ?? 0) - data.nowMs
    const isProgress = before === 0 || Number(moves) < before
    if (waitMs > 0 && !isProgress && isForced !== '1') return waitMs
    const times = isProgress ? 0 : Number(data.hget(key, 'times') ?? 0) + 1
    const pauseMs = Math.min(FIRST_PLAN_PAUSE_MS * 2 ** Math.min(times, 10), GREATEST_PLAN_PAUSE_MS)
    const fields = { plan, moves, times: String(times), next: String(data.nowMs + pauseMs) }
    for (const [field, value] of Object.entries(fields)) data.hset(key, field, value)
    this.#watch.planned?.((JSON.parse(plan) as { keep: Record<string, number> }).keep)
    this.#publish(channel, message)
    return 0
  }

  #endSession(keys: readonly string[], args: readonly string[]): number {
    const [lbs, heartbeat, members, levelKey, probe] = keys as [string, string, string, string, string]
    const [group, clientId, token, channel, given] = args as [string, string, string, string, string]
    const data = this.#data
    const consumer = `${clientId}:${token}`
    const removed = data.get(heartbeat) === token ? data.del(heartbeat) : 0
    if (data.get(probe) === clientId) data.del(probe)
    const level = channel !== '' && given === '' ? (data.get(levelKey) ?? '') : given
    if (this.#hasPending(lbs, group, consumer)) {
      if (channel !== '') this.#publish(channel, waitingMessage(consumer, level))
    } else {
      if (data.hasGroup(lbs, group)) data.xgroupDelConsumer(lbs, group, consumer)
      if (data.hget(members, clientId)?.split(';')[1] === token) data.hdel(members, clientId)
    }
    if (channel !== '' && this.#hasPending(lbs, group, POOL))
      this.#publish(channel, waitingMessage(POOL, level))
    return removed
  }

  #deal(keys: readonly string[], args: readonly string[]): Answer {
    const [lbs, heartbeat, prefix] = keys as [string, string, string]
    const [group, clientId, token, from, count, mode] = args as [
      string,
      string,
      string,
      string,
      string,
      string,
    ]
    const [idleMs, tellMs, againMs, greatestMs] = args.slice(6).map(Number) as [
      number,
      number,
      number,
      number,
    ]
    const data = this.#data
    if (data.get(heartbeat) !== token && this.#weakness !== 'deal-to-the-dead') return 'SESSION_LOST'
    if (this.#isLiving(prefix, from) && this.#weakness !== 'deal-from-the-living') return [0, 0, 0]
    const { times, waitMs } = this.#waitOf(from, clientId)
    if (waitMs > 0) return [1, waitMs, 0]
    const after = (ms: number): number => {
      const wait = Math.min(ms * 2 ** Math.min(Math.floor(times / TIMES_AS_LONG), 30), greatestMs)
      return roundUp(data.nowMs + wait, Math.max(1, wait))
    }
    const to =
      mode === 'take'
        ? `${clientId}:${token}`
        : `pool-${clientId}:${after(tellMs)}-${after(againMs)}-${times + 1}`
    const limit = idleMs > 0 ? Number(count) * IDLE_WINDOW : Number(count)
    const rows = data
      .xpending(lbs, group)
      .filter((row) => row.consumer === from)
      .slice(0, limit + 1)
    const dealt: [string, Fields, number][] = []
    let gone = 0
    let isFull = false
    for (const row of rows) {
      isFull = dealt.length === Number(count)
      if (isFull) break
      if (row.idleMs < idleMs) continue
      const fields = data.xget(lbs, row.id)
      if (fields === null) {
        data.xack(lbs, group, row.id)
        gone++
        continue
      }
      dealt.push([row.id, fields, row.idleMs])
    }
    for (const [id] of dealt) {
      data.xclaim(lbs, group, to, id)
      this.#watch.moved?.(id, from, to, `${clientId}:${token}`)
    }
    const mayBeMore = isFull || rows.length > limit
    if (!mayBeMore) this.#removeIfEmpty(lbs, group, from)
    return [mayBeMore ? 1 : 0, 0, gone, ...dealt]
  }

  /** Milliseconds until a client may have what waits under a consumer, and how often it has been passed on. */
  #waitOf(consumer: string, clientId: string): { waitMs: number; times: number } {
    const match = /^pool-(.+):(\d+)-(\d+)-(\d+)$/.exec(consumer)
    if (match === null) return { waitMs: 0, times: 0 }
    const [, passedBy, othersMs, ownMs, times] = match
    const fromMs = Number(passedBy === clientId ? ownMs : othersMs)
    return { waitMs: Math.max(0, fromMs - this.#data.nowMs), times: Number(times) }
  }

  #hasPending(lbs: string, group: string, consumer: string): boolean {
    if (!this.#data.hasGroup(lbs, group)) return false
    return this.#countPending(lbs, group, consumer) > 0
  }

  #countPending(lbs: string, group: string, consumer: string): number {
    return this.#data.xpending(lbs, group).filter((row) => row.consumer === consumer).length
  }

  #removeIfEmpty(lbs: string, group: string, consumer: string): void {
    if (!this.#hasPending(lbs, group, consumer)) this.#data.xgroupDelConsumer(lbs, group, consumer)
  }

  #take(keys: readonly string[], args: readonly string[]): Answer {
    const [lbs, heartbeat, locks, fenceKey, checkpoints, dead, prefix] = keys as [
      string,
      string,
      string,
      string,
      string,
      string,
      string,
    ]
    const [group, clientId, token, mode] = args as [string, string, string, string]
    const maxCrashes = Number(args[4])
    const crashWindowMs = Number(args[5])
    const strandedMs = Number(args[6])
    const former = new Set((args[7] as string).split(' '))
    const count = (args.length - 9) / 3
    const consumer = `${clientId}:${token}`
    const data = this.#data
    if (data.get(heartbeat) !== token) return 'SESSION_LOST'
    const service = { lbs, group, locks, checkpoints }
    const nowMs = data.nowMs
    let lastFence = 0

    const nextFence = (): string => {
      if (lastFence === 0) {
        const first = Math.max(Number(data.get(fenceKey) ?? 0) + 1, data.nowUs)
        data.set(fenceKey, String(first + count - 1))
        lastFence = first - 1
      }
      return String(++lastFence)
    }
    const isLiving = (owner: string): boolean => this.#isLiving(prefix, owner)
    const remove = (id: string): void => {
      data.xack(lbs, group, id)
      data.xdel(lbs, id)
    }
    const claim = (owner: string, id: string): void => data.xclaim(lbs, group, owner, id)
    const answerTaken = (stream: string, { commits, fence }: LockRecord, recovered: number): Answer => [
      'TAKEN',
      fence,
      commits,
      recovered,
      data.hget(checkpoints, stream),
    ]
    const enter = (id: string, stream: string, holder: string, crashes: number, recovered: number) => {
      const record = { id, fence: nextFence(), since: nowMs, crashes, commits: 0, owner: consumer }
      this.#write(locks, stream, record)
      if (holder !== consumer) claim(consumer, id)
      this.#watch.taken?.(stream, id, Number(record.fence), consumer)
      return answerTaken(stream, record, recovered)
    }
    const hasFallen = ({ owner }: LockRecord): boolean => owner !== '' && !former.has(tokenOf(owner))
    const recoveredBy = mode === 'acquire' ? 0 : 1
    const crashesAfter = (record: LockRecord): number => {
      if (!hasFallen(record)) return record.crashes
      return nowMs - record.since < crashWindowMs ? record.crashes + 1 : 0
    }

    const deadHolders = new Set<string>()
    const decide = ({ id, knownFence, stream, waiting }: Assignment, own: ReadonlySet<string>): Answer => {
      const pending = data.xpendingOne(lbs, group, id)
      const record = this.#read(locks, stream)
      const isOf = record?.id === id
      const fields = data.xget(lbs, id)
      const isJustRead = record === null && own.has(id)
      if (fields === null && !isJustRead) {
        if (record !== null && isOf && record.owner === consumer) return ['GONE', record.fence]
        if (record !== null && isOf && !isLiving(record.owner)) {
          this.#free(service, stream, waiting)
        }
        if (pending !== null) data.xack(lbs, group, id)
        return ['GONE']
      }
      if (record !== null && isOf && record.owner === consumer) {
        if (Number(record.fence) <= knownFence) {
          record.fence = nextFence()
          this.#write(locks, stream, record)
          this.#watch.taken?.(stream, id, Number(record.fence), consumer)
        }
        if (pending !== null && pending.consumer !== consumer) claim(consumer, id)
        return answerTaken(stream, record, recoveredBy)
      }
      if (pending === null) return ['GONE']
      const holder = pending.consumer
      if (holder !== consumer) {
        if (mode !== 'claim') return ['LEFT']
        if (!isLiving(holder)) deadHolders.add(holder)
        const isReserved = record !== null && isOf && record.owner === ''
        const isStranded = record === null && pending.idleMs >= strandedMs
        if (isLiving(holder) && !isReserved && !isStranded && this.#weakness !== 'no-owner-check') {
          return ['CLAIMED']
        }
      }
      if (record === null) return enter(id, stream, holder, 0, recoveredBy)
      if (isOf) {
        if (isLiving(record.owner) && this.#weakness !== 'no-owner-check') {
          if (holder !== record.owner) claim(record.owner, id)
          return ['CLAIMED']
        }
        const crashes = crashesAfter(record)
        if (maxCrashes >= 0 && crashes > maxCrashes) {
          const problem = `${crashes} owners in a row crashed while they held it`
          this.#addDeadLetter(dead, id, fields as Fields, 'max-crashes', problem, clientId)
          this.#free(service, stream, waiting)
          remove(id)
          return ['DEAD', 'max-crashes', problem]
        }
        const hadOwner = record.fence !== '0' ? 1 : recoveredBy
        return enter(id, stream, holder, crashes, hasFallen(record) ? 2 : hadOwner)
      }
      const isStale = data.xget(lbs, record.id) === null && !isLiving(record.owner)
      if (this.#weakness !== 'no-backlog') this.#pushBacklog(waiting, id, fields as Fields)
      this.#watch.queued?.(stream, id)
      if (isStale) this.#free(service, stream, waiting)
      remove(id)
      return ['QUEUED']
    }

    const entries = partsOf(args, 9, 3).map(([id, stream, knownFence], index) => {
      return {
        id: id as string,
        stream: stream as string,
        knownFence: Number(knownFence),
        waiting: waitingOf(keys, 7, index),
      }
    })
    const answers = roundsOf(entries).flatMap((round) => {
      const own = new Set(mode !== 'claim' ? this.#ownBetween(lbs, group, consumer, round) : [])
      return round.map((entry) => decide(entry, own))
    })
    for (const holder of deadHolders) this.#removeIfEmpty(lbs, group, holder)
    return answers
  }

  /** What is pending under a consumer from the first to the last id of a round, as many as the round has entries. */
  #ownBetween(lbs: string, group: string, consumer: string, round: readonly { id: string }[]): string[] {
    const [first, last] = [round[0], round.at(-1)].map((entry) => orderOf(entry?.id ?? '0-0')) as [
      number,
      number,
    ]
    return this.#data
      .xpending(lbs, group)
      .filter((row) => row.consumer === consumer && orderOf(row.id) >= first && orderOf(row.id) <= last)
      .slice(0, round.length)
      .map(({ id }) => id)
  }

  #finish(keys: readonly string[], args: readonly string[]): Answer {
    const [lbs, heartbeat, locks, checkpoints] = keys as [string, string, string, string]
    const [group, clientId, token] = args as [string, string, string]
    const data = this.#data
    const isAlive = data.get(heartbeat) === token
    return partsOf(args, 3, 4).map(([stream, id, fence, keep], index) => {
      if (!isAlive) return 'SESSION_LOST'
      const record = this.#read(locks, stream as string)
      if (this.#weakness !== 'no-fence-check') {
        if (record === null || record.fence !== fence) return 'OK'
        if (record.id !== id || record.owner !== `${clientId}:${token}`) return 'NOT_OWNED'
      }
      const fields = data.xget(lbs, id as string)
      if (fields !== null) this.#watch.finished?.(stream as string, id as string, Number(fence), fields)
      this.#free(
        { lbs, group, locks, checkpoints },
        stream as string,
        waitingOf(keys, 4, index),
        keep === '1',
      )
      data.xack(lbs, group, id as string)
      data.xdel(lbs, id as string)
      return 'OK'
    })
  }

  #release(keys: readonly string[], args: readonly string[]): Answer {
    const [heartbeat, locks, lbs, levelKey, checkpoints] = keys as [string, string, string, string, string]
    const [clientId, token, group, channel, poolOrMs, level] = args as [
      string,
      string,
      string,
      string,
      string,
      string,
    ]
    const data = this.#data
    const isAlive = data.get(heartbeat) === token
    const ownMs = Number(poolOrMs)
    const untilMs = roundUp(data.nowMs + ownMs, Math.ceil(ownMs / NAMES_AT_A_TIME))
    const pool = Number.isNaN(ownMs) ? poolOrMs : `pool-${clientId}:0-${untilMs}-0`
    const released: string[] = []
    const freeable = new Map<string, { stream: string; waiting: Waiting }>()
    const answers = partsOf(args, 6, 3).map(([stream, id, fence], index) => {
      if (!isAlive) return 'SESSION_LOST'
      if (this.#weakness === 'release-before-the-check') released.push(id as string)
      const record = this.#read(locks, stream as string)
      if (record === null || record.fence !== fence || record.owner === '') return 'OK'
      if (record.id !== id || record.owner !== `${clientId}:${token}`) return 'NOT_OWNED'
      record.owner = ''
      record.crashes = 0
      this.#write(locks, stream as string, record)
      released.push(id as string)
      freeable.set(id as string, { stream: stream as string, waiting: waitingOf(keys, 5, index) })
      return 'OK'
    })
    if (released.length === 0) return answers
    if (!data.hasGroup(lbs, group))
      throw new ModelError(`NOGROUP No such key '${lbs}' or consumer group '${group}'`)
    for (const id of released) {
      const from = data.xpendingOne(lbs, group, id)?.consumer
      data.xclaim(lbs, group, pool, id)
      const gone = data.xget(lbs, id) === null ? freeable.get(id) : undefined
      if (gone !== undefined) this.#free({ lbs, group, locks, checkpoints }, gone.stream, gone.waiting)
      // The owner may: after the group was made anew another one may have read the entry.
      const isOwner = freeable.has(id)
      if (from !== undefined && !isOwner) this.#watch.moved?.(id, from, pool, `${clientId}:${token}`)
    }
    if (pool === POOL_OF_REBALANCED) {
      const consumer = `${clientId}:${token}`
      this.#watch.gaveBack?.(consumer, this.#countPending(lbs, group, consumer))
    }
    this.#publish(channel, waitingMessage(pool, level === '' ? (data.get(levelKey) ?? '') : level))
    return answers
  }

  #commit([heartbeat, locks, checkpoints]: readonly string[], args: readonly string[]): Answer {
    const [clientId, token] = args as [string, string]
    const isAlive = this.#data.get(heartbeat as string) === token
    return partsOf(args, 2, 5).map(([stream, id, fence, number, checkpoint]) => {
      if (!isAlive) return 'SESSION_LOST'
      const record = this.#read(locks as string, stream as string)
      if (record === null || record.id !== id || record.owner !== `${clientId}:${token}`) return 'NOT_OWNED'
      if (record.fence !== fence) return 'NOT_OWNED'
      if (Number(number) > record.commits) {
        this.#data.hset(checkpoints as string, stream as string, checkpoint as string)
        record.crashes = 0
        record.commits = Number(number)
        this.#write(locks as string, stream as string, record)
        this.#watch.committed?.(stream as string, Number(fence), checkpoint as string)
      }
      return 'OK'
    })
  }

  #confirm(keys: readonly string[], args: readonly string[]): Answer {
    const [lbs, heartbeat, locks] = keys as [string, string, string]
    const [group, clientId, token] = args as [string, string, string]
    const consumer = `${clientId}:${token}`
    const data = this.#data
    if (data.get(heartbeat) !== token) return 'SESSION_LOST'
    return partsOf(args, 3, 3).map(([stream, id, fence]) => {
      const record = this.#read(locks, stream as string)
      if (record === null || record.id !== id || record.fence !== fence || record.owner !== consumer) {
        return 'LOST'
      }
      if (data.xget(lbs, id) === null) return 'GONE'
      const pending = data.xpendingOne(lbs, group, id)
      if (pending !== null && pending.consumer !== consumer) data.xclaim(lbs, group, consumer, id)
      return 'OURS'
    })
  }

  #bury([lbs, heartbeat, dead, prefix]: readonly string[], args: readonly string[]): Answer {
    const [group, clientId, token] = args as [string, string, string]
    const consumer = `${clientId}:${token}`
    const data = this.#data
    if (data.get(heartbeat as string) !== token) return 'SESSION_LOST'
    return partsOf(args, 4, 3).map(([id, reason, problem]) => {
      const pending = data.xpendingOne(lbs as string, group, id as string)
      if (pending === null) return 'GONE'
      if (pending.consumer !== consumer && this.#isLiving(prefix as string, pending.consumer)) return 'LEFT'
      const fields = data.xget(lbs as string, id as string)
      if (fields !== null) {
        this.#addDeadLetter(
          dead as string,
          id as string,
          fields,
          reason as string,
          problem as string,
          clientId,
        )
      }
      data.xack(lbs as string, group, id as string)
      data.xdel(lbs as string, id as string)
      return fields === null ? 'GONE' : 'BURIED'
    })
  }

  #probe(keys: readonly string[], args: readonly string[]): Answer {
    const [group, silentMs, clientId, winnerMs] = args as [string, string, string, string]
    const [lbs, , , probe, level] = keys as [string, string, string, string, string]
    if (this.#data.get(probe) !== null) return this.#data.get(level) ?? ''
    this.#data.set(probe, clientId, Number(winnerMs))
    return [this.#data.xlen(lbs), this.#roster(keys, group, Number(silentMs), true)]
  }

  #roster(keys: readonly string[], group: string, silentMs: number, withEnds: boolean): Answer {
    const [lbs, prefix, members] = keys as [string, string, string]
    const data = this.#data
    if (!data.hasGroup(lbs, group)) return []
    return data.xinfoConsumers(lbs, group).flatMap(({ name, pending, idleMs }) => {
      const isSilent = pending === 0 && idleMs >= silentMs
      const isAlive = !isSilent && this.#isLiving(prefix, name)
      if (!isAlive && pending === 0) return []
      const leftMs = withEnds ? data.pttl(prefix + clientOf(name)) : -2
      if (!isAlive) return [[name, pending, 0, this.#waitOf(name, '').waitMs, '', 0]]
      const facts = data.hget(members, clientOf(name))?.split(';')[0] ?? ''
      const beganMs = /(\d+)$/.exec(facts)?.[1]
      const ageMs = beganMs === undefined ? 0 : Math.max(0, data.nowMs - Number(beganMs))
      return [[name, pending, 1, leftMs, facts, ageMs]]
    })
  }

  #sweep(keys: readonly string[], [group, ...streams]: readonly string[]): Answer {
    const [lbs, locks, checkpoints, prefix] = keys as [string, string, string, string]
    return streams.map((stream, index) => {
      const record = this.#read(locks, stream)
      if (record === null || this.#isLiving(prefix, record.owner)) return 0
      if (this.#data.xget(lbs, record.id) !== null) return 0
      this.#free({ lbs, group: group as string, locks, checkpoints }, stream, waitingOf(keys, 4, index))
      this.#data.xack(lbs, group as string, record.id)
      return 1
    })
  }

  #removeConsumers([lbs, prefix]: readonly string[], [group, ...consumers]: readonly string[]): Answer {
    const data = this.#data
    return consumers.map((consumer) => {
      if (this.#isLiving(prefix as string, consumer)) return 'ALIVE'
      const pending = data.xpending(lbs as string, group as string)
      if (pending.some((row) => row.consumer === consumer)) return 'PENDING'
      data.xgroupDelConsumer(lbs as string, group as string, consumer)
      return 'REMOVED'
    })
  }

  #forgetMembers(keys: readonly string[], [group, ...clientIds]: readonly string[]): Answer {
    const [lbs, prefix, members] = keys as [string, string, string]
    const gone = clientIds.filter((clientId) => {
      const tokens = this.#data.hget(members, clientId)?.split(';')[1]?.split(' ')
      if (tokens === undefined || this.#data.get(prefix + clientId) !== null) return false
      return !tokens.some((token) => this.#hasPending(lbs, group as string, `${clientId}:${token}`))
    })
    for (const clientId of gone) this.#data.hdel(members, clientId)
    return gone.length
  }

  #free(
    { checkpoints, lbs, locks }: Record<'lbs' | 'locks' | 'checkpoints' | 'group', string>,
    stream: string,
    waiting: Waiting,
    keepsCheckpoint = false,
  ): void {
    const data = this.#data
    const first = this.#firstWaiting(waiting)
    if (first === null) {
      data.hdel(locks, stream)
    } else {
      const [originalId, ...fields] = JSON.parse(first.item) as [string, ...string[]]
      const id = data.xadd(lbs, fields)
      if (this.#weakness === 'no-reservation') data.hdel(locks, stream)
      else
        this.#write(locks, stream, { id, fence: '0', since: data.nowMs, crashes: 0, commits: 0, owner: '' })
      first.remove()
      this.#watch.readded?.(stream, originalId, id)
    }
    if (!keepsCheckpoint) data.hdel(checkpoints, stream)
  }

  #pushBacklog(waiting: Waiting, id: string, fields: Fields): void {
    const item = JSON.stringify([id, ...fields])
    const last = this.#data.lrange(waiting.list).at(-1)
    if (last === undefined || orderOf(idOf(last)) < orderOf(id)) this.#data.rpush(waiting.list, item)
    else this.#data.zadd(waiting.late, `${padId(id)} ${item}`)
  }

  /** The first of a backlog, and how to remove it. */
  #firstWaiting({ late, list }: Waiting): { readonly item: string; readonly remove: () => void } | null {
    const item = this.#data.lrange(list)[0]
    const lateItem = this.#data.zrange(late)[0]?.slice(PADDED_ID_LENGTH + 1)
    if (lateItem !== undefined && (item === undefined || orderOf(idOf(lateItem)) < orderOf(idOf(item)))) {
      return { item: lateItem, remove: () => this.#data.zpopmin(late) }
    }
    return item === undefined ? null : { item, remove: () => this.#data.lpop(list) }
  }

  #addDeadLetter(
    dead: string,
    id: string,
    fields: Fields,
    reason: string,
    problem: string,
    clientId: string,
  ): void {
    const facts = { reason, error: problem, id, fields: JSON.stringify(fields), client: clientId }
    this.#data.xadd(dead, [...Object.entries(facts).flat(), 'at', String(this.#data.nowMs)])
    this.#watch.buried?.(id, fields)
  }

  #isLiving(prefix: string, consumer: string): boolean {
    return consumer !== '' && this.#data.get(prefix + clientOf(consumer)) === tokenOf(consumer)
  }

  #read(locks: string, stream: string): LockRecord | null {
    const text = this.#data.hget(locks, stream)
    if (text === null) return null
    const match = /^(\S+) (\S+) (\S+) (\S+) (\S+) (.*)$/s.exec(text)
    if (match === null) throw new ModelError(`ERR damaged lock record: ${text}`)
    const [, id, fence, since, crashes, commits, owner] = match as unknown as string[]
    return {
      id: id as string,
      fence: fence as string,
      since: Number(since),
      crashes: Number(crashes),
      commits: Number(commits),
      owner: owner as string,
    }
  }

  #write(locks: string, stream: string, { commits, crashes, fence, id, owner, since }: LockRecord): void {
    this.#data.hset(locks, stream, `${id} ${fence} ${since} ${crashes} ${commits} ${owner}`)
  }
}

function waitingMessage(consumer: string, level: string): string {
  const [streams, living, first] = level.split(' ')
  const numberOrNull = (text: string | undefined): number | null =>
    text === undefined || text === '' || text === '-' ? null : Number(text)
  return JSON.stringify({
    type: 'waiting',
    consumer,
    level: numberOrNull(streams),
    living: numberOrNull(living),
    firstLevel: numberOrNull(first),
  })
}

function roundUp(ms: number, gridMs: number): number {
  return Math.ceil(ms / gridMs) * gridMs
}

/** Entries are decided in rounds in which no data stream occurs twice. */
function roundsOf<T extends { readonly stream: string }>(entries: readonly T[]): T[][] {
  const rounds: T[][] = []
  for (const entry of entries) {
    const round = rounds.at(-1)
    if (round === undefined || round.some(({ stream }) => stream === entry.stream)) rounds.push([entry])
    else round.push(entry)
  }
  return rounds
}

function partsOf(args: readonly string[], start: number, size: number): string[][] {
  const parts: string[][] = []
  for (let at = start; at < args.length; at += size) parts.push(args.slice(at, at + size))
  return parts
}

function waitingOf(keys: readonly string[], first: number, index: number): Waiting {
  return { list: keys[first + 2 * index] as string, late: keys[first + 2 * index + 1] as string }
}

function idOf(item: string): string {
  return (JSON.parse(item) as string[])[0] as string
}

function padId(id: string): string {
  return id
    .split('-')
    .map((part) => part.padStart(20, '0'))
    .join('-')
}

function clientOf(consumer: string): string {
  return consumer.slice(0, consumer.lastIndexOf(':'))
}

function tokenOf(consumer: string): string {
  return consumer.slice(consumer.lastIndexOf(':') + 1)
}
