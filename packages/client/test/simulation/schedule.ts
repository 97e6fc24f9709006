/**
 * One schedule: some processes with real clients, a server, a network, producers, and faults, all chosen by a seed.
 * After a while faults end; then everything has to come to its end within a bound.
 */
import type { ClientOptions, OwnedStream, StreamClientError } from '../../src/index.js'
import type { StreamHandle } from '../../src/ownership/stream-handle.js'
import { LBS_FIELD, resolveServiceKeys } from '../../src/service-keys.js'
import { Ledger, numberOf } from './ledger.js'
import { ModelNetwork } from './model-network.js'
import { type Habits, ModelProcess } from './model-process.js'
import type { ScriptWeakness } from './model-scripts.js'
import { ModelServer } from './model-server.js'
import { Random } from './random.js'
import { VirtualTime } from './virtual-time.js'

const SERVICE = 'orders'
const TTL_MS = 400
/** Less than the margin of trust. */
const CLOCK_DRIFT = 0.03
const CALM_CHECK_MS = 50
/** BLOCK of a read, and how much longer its answer may take. */
const HALF_OPEN_READ_MS = 1500
/** A process may be paused when the last fault is over. */
const GREATEST_PAUSE_MS = 2.5 * TTL_MS
/** How many schedules are looked at some time after their end. */
const REST_SHARE = 0.2
const REST_MS = 1500
const LEAST_BOUND_MS = 4000
/** Makes another seed of a seed. */
const MISFORTUNE = 1_000_003

/** What may go wrong, or just happen, in the first part of a schedule. */
const EVENTS = [
  'add',
  'add-again',
  'add-broken',
  'kill',
  'start',
  'start-twin',
  'leave',
  'pause',
  'stall',
  'cut',
  'cut-silently',
  'cut-off',
  'fade',
  'set-clock',
  'stick-server',
  'load-server',
  'forget-scripts',
  'restart-server',
  'lose-data',
  'empty-server',
  'destroy-group',
  'delete-entry',
] as const
type Event = (typeof EVENTS)[number]
/** Without these nothing happens. */
const ALWAYS: readonly Event[] = ['add', 'add-again', 'start']
/** After these the server has lost what it had acknowledged. */
const LOSING: readonly Event[] = ['lose-data', 'empty-server']

export interface PlayOptions {
  /** What the server leaves out. */
  readonly weakness?: ScriptWeakness | null
  /** Keys of the server live shorter than asked for by this share. */
  readonly shorterTtl?: number
  readonly onLog?: (text: string) => void
}

export interface Outcome {
  readonly seed: number
  readonly violations: readonly string[]
  readonly turns: number
  readonly virtualMs: number
  /** How long streams had no owner once faults were over, at worst. */
  readonly ownerlessMs: number
}

export async function play(seed: number, options: PlayOptions = {}): Promise<Outcome> {
  const schedule = new Schedule(seed, options)
  return await schedule.run()
}

class Schedule {
  readonly #seed: number
  readonly #options: PlayOptions
  readonly #random: Random
  readonly #time: VirtualTime
  readonly #keys = resolveServiceKeys(SERVICE, { onCluster: false })
  readonly #server: ModelServer
  readonly #network: ModelNetwork
  readonly #ledger: Ledger
  readonly #events: readonly Event[]
  readonly #habits: Habits
  readonly #clientOptions: ClientOptions
  readonly #streams: readonly string[]
  readonly #processes: ModelProcess[] = []
  readonly #snapshots: unknown[] = [null]
  /** When entries that nobody owns were seen first, once faults are over. */
  readonly #ownerlessSince = new Map<string, number>()
  #calmSinceMs = Number.POSITIVE_INFINITY
  #ownerlessMs = 0
  #starts = 0

  constructor(seed: number, options: PlayOptions) {
    this.#seed = seed
    this.#options = options
    const random = new Random(seed)
    this.#random = random
    this.#time = new VirtualTime(random)
    const time = this.#time
    this.#ledger = new Ledger(
      this.#keys,
      () => this.#server.data,
      (stream) => this.#believers(stream),
      () => time.nowMs,
    )
    this.#server = new ModelServer({
      wallMs: () => time.wallMs,
      nowMs: () => time.nowMs,
      later: (ms, act) => time.at(time.nowMs + ms, null, act),
      watch: this.#ledger,
      weakness: options.weakness ?? null,
      ttlShare: 1 - (options.shorterTtl ?? 0),
      onExpired: (key, value) => {
        const { heartbeatPrefix } = this.#keys
        if (!key.startsWith(heartbeatPrefix)) return
        this.#ledger.sessionExpired(`${key.slice(heartbeatPrefix.length)}:${value}`)
      },
      afterWrite: () => this.#ledger.check(),
      log: options.onLog === undefined ? undefined : (text) => this.#log(text),
    })
    const misfortune = new Random(seed + MISFORTUNE)
    this.#network = new ModelNetwork(time, this.#server, misfortune)
    this.#network.answerLoss = misfortune.pick([0, 0, 0, 0.02])
    this.#network.hintDoubles = misfortune.pick([0, 0, 0.3])
    // Each schedule has a choice of the events: with all of them in each, some would hide others.
    this.#events = EVENTS.filter(
      (event) => ALWAYS.includes(event) || random.chance(LOSING.includes(event) ? 0.1 : 0.3),
    )
    this.#network.slowShare = random.pick([0, 0.02, 0.1])
    this.#network.greatestSlowMs = random.pick([10, 100, TTL_MS])
    this.#network.hintLoss = random.pick([0, 0, 0.3, 1])
    this.#habits = {
      greatestWorkMs: random.pick([5, 50, 200]),
      greatestCommits: random.whole(0, 3),
      releases: random.pick([0, 0, 0.1, 0.3]),
      dawdles: random.pick([0, 0.3]),
      listens: random.pick([0, 0.5]),
      dozes: random.pick([0, 0, 0.3]),
      waysToLeave: ['release', 'done'],
      greatestLeaveMs: 0,
    }
    this.#clientOptions = {
      heartbeatTtlMs: TTL_MS,
      lbsIdleTimeMs: TTL_MS * random.whole(2, 4),
      probeIntervalMs: random.pick([50, 100, 200]),
      claimStaggerMs: random.pick([0, 10, 50]),
      claimMode: random.pick(['auto', 'manual']),
      closeTimeoutMs: random.pick([0, 100, 400]),
      rebalance: random.pick(['off', 'cooperative', { settleMs: 100, timeoutMs: 200 }]),
      crashWindowMs: random.pick([100, 60_000]),
      readCount: random.pick([1, 3, 10]),
      notificationBufferSize: random.pick([1, 3, 500]),
      keyspaceEvents: random.pick(['auto', 'off']),
      lbsRecoveryCount: random.pick([1, 1000]),
      consumerRetentionMs: random.pick([0, 3_600_000]),
      maxCrashes: random.pick([undefined, undefined, 2]),
    }
    this.#streams = Array.from({ length: random.whole(1, 5) }, (_, index) => `s${index}`)
  }

  async run(): Promise<Outcome> {
    const random = this.#random
    for (let clients = random.whole(1, 4); clients > 0; clients--) {
      this.#time.at(random.between(0, 100), null, () => this.#start())
    }
    for (let jobs = random.whole(1, 12); jobs > 0; jobs--) {
      this.#time.at(random.between(0, 2 * TTL_MS), null, () => this.#add(random.pick(this.#streams)))
    }
    const faultsEndMs = random.between(1, 8) * TTL_MS
    this.#happen(random.between(50, TTL_MS), faultsEndMs)
    this.#expireSometimes()
    const isWrong = (): boolean => this.#checkTurn()
    await this.#time.pass(faultsEndMs, isWrong)
    if (this.#ledger.violations.length === 0) {
      this.#calm()
      const boundMs = Math.max(LEAST_BOUND_MS, 6 * (this.#clientOptions.lbsIdleTimeMs ?? 0))
      await this.#time.pass(faultsEndMs + boundMs, () => isWrong() || this.#isOver)
      if (!this.#isOver && this.#ledger.violations.length === 0) {
        const left = this.#ledger.open.map((number) => `job ${number}`)
        this.#ledger.fail(`${left.join()} not brought to an end within ${boundMs} ms after the last fault`)
      }
      if (this.#random.chance(REST_SHARE)) await this.#rest(isWrong)
    }
    return {
      seed: this.#seed,
      violations: this.#ledger.violations,
      turns: this.#time.turns,
      virtualMs: this.#time.nowMs,
      ownerlessMs: this.#ownerlessMs,
    }
  }

  /** When nothing has happened for a while, everybody has as much room as in the beginning. */
  async #rest(isWrong: () => boolean): Promise<void> {
    await this.#time.pass(this.#time.nowMs + REST_MS, isWrong)
    for (const { client, isClosing, name, options } of this.#living) {
      const health = client?.health()
      if (health?.session !== 'held' || isClosing) continue
      const greatest = options.maxOwnedStreams ?? Number.POSITIVE_INFINITY
      if (health.owned > 0) this.#ledger.fail(`${name} owns ${health.owned} streams after all is done`)
      else if (health.capacity !== greatest) {
        this.#ledger.fail(`${name} has room for ${health.capacity} of ${greatest} after all is done`)
      }
    }
  }

  get #living(): ModelProcess[] {
    return this.#processes.filter((process) => !process.isDead)
  }

  /**
   * Hints may be lost, answers to reads too: then a half-open connection is noticed when the read should have ended,
   * and what was offered once is offered again after `lbsIdleTimeMs` at the latest.
   */
  get #ownerlessBoundMs(): number {
    const { lbsIdleTimeMs = 0, probeIntervalMs = 0 } = this.#clientOptions
    return Math.max(lbsIdleTimeMs, HALF_OPEN_READ_MS) + TTL_MS + 2 * probeIntervalMs + GREATEST_PAUSE_MS
  }

  get #isOver(): boolean {
    return this.#ledger.open.length === 0 && this.#living.every((process) => !process.isClosing)
  }

  #checkTurn(): boolean {
    for (const { client, isDead, name, options } of this.#processes) {
      const greatest = options.maxOwnedStreams ?? Number.POSITIVE_INFINITY
      if (!isDead && client !== undefined && client.owned.size > greatest) {
        this.#ledger.fail(`${name} owns ${client.owned.size} streams, but may own ${greatest}`)
      }
    }
    return this.#ledger.violations.length > 0
  }

  /** Names of the consumers of all who trust themselves as owner of a stream now. */
  #believers(stream: string): string[] {
    return this.#living.flatMap((process) => {
      const owned: OwnedStream | undefined = process.client?.owned.get(stream)
      if (owned === undefined) return []
      if (!this.#time.as(process, () => process.trusts(owned))) return []
      return [(owned as StreamHandle).session.consumer]
    })
  }

  #start(id = `c${this.#starts}`, isUnlimited = false): void {
    const random = this.#random
    const limit = isUnlimited || random.chance(0.6) ? undefined : random.whole(1, 3)
    const name = `${id}#${this.#starts++}`
    const rate = 1 + random.between(-CLOCK_DRIFT, CLOCK_DRIFT)
    const process = new ModelProcess(id, name, { ...this.#clientOptions, maxOwnedStreams: limit }, rate, {
      network: this.#network,
      random,
      service: SERVICE,
      habits: this.#habits,
      isCalm: () => this.#time.nowMs >= this.#calmSinceMs,
      onCommitted: (number, count) => this.#ledger.committedOf(number, count),
      onProblem: (problem) => this.#ledger.fail(problem),
      log: (text) => this.#log(text),
      onRefused: ({ startedAtMs }: ModelProcess, { code }: StreamClientError) => {
        if (code !== 'CONSUMER_ID_IN_USE' || this.#hasLivedSince(startedAtMs, id, process)) return
        this.#ledger.fail(`${name} was told that another living process has its id, and there was none`)
      },
      onExit: () => this.#startAgainLater(id),
    })
    this.#processes.push(process)
    process.start()
  }

  /** True if a process with that id, other than this one, was alive at that moment or later. */
  #hasLivedSince(atMs: number, id: string, besides: ModelProcess): boolean {
    return this.#processes.some((other) => other !== besides && other.id === id && other.diedAtMs > atMs)
  }

  /** As Kubernetes does. */
  #startAgainLater(id: string): void {
    if (this.#random.chance(0.5) && this.#living.length > 0) return
    this.#time.at(this.#time.nowMs + this.#random.between(0, TTL_MS), null, () => this.#start(id))
  }

  #add(stream: string): void {
    if (!this.#network.isServerUp) return
    const text = JSON.stringify({ DataStreamName: stream, Info: { n: this.#ledger.add(stream) } })
    this.#server.write((data) => data.xadd(this.#keys.lbs, [LBS_FIELD, text]))
  }

  #addBroken(): void {
    if (!this.#network.isServerUp) return
    const text = `{"DataStreamName": 7, "n":${this.#ledger.add('none')}`
    this.#server.write((data) => data.xadd(this.#keys.lbs, [LBS_FIELD, text]))
  }

  /** Redis deletes what is past its TTL when it gets round to it. */
  #expireSometimes(): void {
    const ms = this.#random.pick([20, 200, 5000])
    const turn = (): void => {
      this.#server.expire()
      this.#time.at(this.#time.nowMs + ms, null, turn)
    }
    turn()
  }

  #happen(inMs: number, untilMs: number): void {
    const atMs = this.#time.nowMs + inMs
    if (atMs >= untilMs) return
    this.#time.at(atMs, null, () => {
      const event = this.#random.pick(this.#events)
      if (this.#events.includes('lose-data')) this.#snapshots.push(this.#server.data.snapshot())
      this.#log(`-- ${event}`)
      this.#act(event)
      this.#happen(this.#random.between(0, TTL_MS / 2), untilMs)
    })
  }

  #act(event: Event): void {
    const random = this.#random
    const living = this.#living
    const someone = living.length > 0 ? random.pick(living) : null
    switch (event) {
      case 'add':
        this.#add(random.pick(this.#streams))
        break
      case 'add-again': {
        const stream = random.pick(this.#streams)
        for (let times = random.whole(2, 4); times > 0; times--) this.#add(stream)
        break
      }
      case 'add-broken':
        this.#addBroken()
        break
      case 'start':
        if (living.length < 5) this.#start()
        break
      case 'start-twin':
        if (someone !== null && living.length < 5) this.#start(someone.id)
        break
      case 'kill':
        if (someone !== null) this.#kill(someone)
        break
      case 'leave':
        someone?.leave(random.pick(['close', 'close', 'done']))
        break
      case 'pause':
        if (someone !== null) someone.pausedUntilMs = this.#time.nowMs + random.between(0, GREATEST_PAUSE_MS)
        break
      case 'stall':
        if (someone !== null) someone.pausedUntilMs = this.#time.nowMs + random.between(0, TTL_MS / 2)
        break
      case 'cut':
      case 'cut-silently': {
        const links = someone === null ? [] : this.#network.linksOf(someone)
        if (links.length > 0) random.pick(links).cut(event === 'cut')
        break
      }
      case 'cut-off':
        if (someone !== null) this.#network.cutOff(someone, random.between(0, 3 * TTL_MS))
        break
      case 'fade': {
        const [slowMs, fadesForMs] = [random.between(0, TTL_MS / 4), random.between(0, TTL_MS)]
        if (someone !== null)
          this.#network.fade(someone, slowMs, fadesForMs, random.between(TTL_MS, 3 * TTL_MS))
        break
      }
      case 'set-clock':
        if (someone !== null) someone.wallStepMs += random.between(-5 * TTL_MS, 5 * TTL_MS)
        break
      case 'stick-server':
        this.#network.stickServer(random.between(0, TTL_MS / 2))
        break
      case 'load-server':
        this.#server.refuseUntil(this.#time.nowMs + random.between(0, 1.5 * TTL_MS))
        break
      case 'forget-scripts':
        this.#server.forgetScripts()
        break
      case 'restart-server':
        this.#network.restartServer(random.between(0, 1.5 * TTL_MS), this.#server.data.snapshot())
        break
      case 'lose-data':
        this.#restartWithLoss(random.pick(this.#snapshots))
        break
      case 'empty-server':
        this.#restartWithLoss(null)
        break
      case 'destroy-group':
        this.#server.write((data) => data.xgroupDestroy(this.#keys.lbs, this.#keys.group))
        break
      case 'delete-entry':
        this.#deleteEntry()
        break
      default:
        event satisfies never
    }
  }

  #kill(process: ModelProcess): void {
    process.kill()
    this.#log(`${process.name} is killed`)
    this.#startAgainLater(process.id)
  }

  #restartWithLoss(snapshot: unknown): void {
    const downMs = this.#random.between(0, TTL_MS)
    this.#network.restartServer(downMs, snapshot)
    this.#ledger.forgive(downMs + 1.5 * TTL_MS)
  }

  /** Somebody else deletes an entry. */
  #deleteEntry(): void {
    const entries = this.#server.data.xall(this.#keys.lbs)
    if (entries.length === 0) return
    const { fields, id } = this.#random.pick(entries)
    this.#ledger.deleted(numberOf(fields))
    this.#server.write((data) => data.xdel(this.#keys.lbs, id))
  }

  /** Faults are over. Somebody has to be there. */
  #calm(): void {
    this.#log('-- calm')
    this.#calmSinceMs = this.#time.nowMs
    this.#network.heal()
    this.#server.refuseUntil(0)
    if (this.#living.every((process) => process.isClosing)) this.#start('rescuer', true)
    const look = (): void => {
      this.#lookForOwners()
      for (const process of this.#processes) {
        process.checkLeaving(this.#calmSinceMs)
        process.checkCalls(this.#calmSinceMs)
      }
      this.#time.at(this.#time.nowMs + CALM_CHECK_MS, null, look)
    }
    look()
  }

  #lookForOwners(): void {
    const owned = new Set(
      this.#living.flatMap(({ client }) =>
        [...(client?.owned.values() ?? [])].map((stream) => stream.idInLbs),
      ),
    )
    const nowMs = this.#time.nowMs
    const entries = this.#server.data.xall(this.#keys.lbs)
    const ids = new Set(entries.map(({ id }) => id))
    for (const id of this.#ownerlessSince.keys()) {
      if (!ids.has(id) || owned.has(id)) this.#ownerlessSince.delete(id)
    }
    for (const id of ids) {
      if (owned.has(id)) continue
      const sinceMs = this.#ownerlessSince.get(id) ?? nowMs
      this.#ownerlessSince.set(id, sinceMs)
      this.#ownerlessMs = Math.max(this.#ownerlessMs, nowMs - sinceMs)
      if (nowMs - sinceMs > this.#ownerlessBoundMs) {
        this.#ledger.fail(
          `the entry ${id} had no owner for ${this.#ownerlessBoundMs} ms after the last fault`,
        )
      }
    }
  }

  #log(text: string): void {
    this.#options.onLog?.(`${this.#time.nowMs.toFixed(1).padStart(8)} ${text}`)
  }
}
