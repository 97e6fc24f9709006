/**
 * One schedule of clients that share streams nobody finishes: clients join, leave and die, also right after they were
 * dealt streams, planners overlap, answers get lost and messages come twice or are false. When that is over, all
 * clients have to come to their shares, and then nothing may move any more. Until then no client gives back more than a
 * plan asked it for.
 */
import { shareAt, waterLevel } from '../../src/decisions/water-level.js'
import type { ClientOptions, OwnedStream } from '../../src/index.js'
import type { StreamHandle } from '../../src/ownership/stream-handle.js'
import { LBS_FIELD, resolveServiceKeys } from '../../src/service-keys.js'
import { ModelNetwork } from './model-network.js'
import { type Habits, ModelProcess } from './model-process.js'
import { ModelServer } from './model-server.js'
import { Random } from './random.js'
import type { Outcome, PlayOptions } from './schedule.js'
import { SharingLedger } from './sharing-ledger.js'
import { type Process, VirtualTime } from './virtual-time.js'

const SERVICE = 'orders'
const TTL_MS = 400
const GREATEST_CLIENTS = 6
/** Until all have their shares once nothing is wrong any more. */
const EVEN_MS = 60_000
const LOOK_MS = 50
/** For so long nothing may move when all have their shares; what is under way then may end before. */
const REST_MS = 3000
const UNDER_WAY_MS = 10_000
const TOLERANCE = 0.1

const EVENTS = [
  'join',
  'leave',
  'kill',
  'kill-once-dealt',
  'stall',
  'pause',
  'cut',
  'cut-off',
  'late-deal',
  'stick-server',
  'plan-by-hand',
  'false-hint',
] as const
type Event = (typeof EVENTS)[number]

export async function playSharing(seed: number, options: PlayOptions = {}): Promise<Outcome> {
  return await new SharingSchedule(seed, options).run()
}

class SharingSchedule {
  readonly #seed: number
  readonly #options: PlayOptions
  readonly #random: Random
  readonly #time: VirtualTime
  readonly #keys = resolveServiceKeys(SERVICE, { onCluster: false })
  readonly #server: ModelServer
  readonly #network: ModelNetwork
  readonly #ledger: SharingLedger
  readonly #habits: Habits
  readonly #clientOptions: ClientOptions
  readonly #events: readonly Event[]
  readonly #streams: readonly string[]
  readonly #processes: ModelProcess[] = []
  #isNextDealtDoomed = false
  #isNextDealLate = false
  #wasStuck = false
  #starts = 0

  constructor(seed: number, options: PlayOptions) {
    this.#seed = seed
    this.#options = options
    const random = new Random(seed)
    this.#random = random
    this.#time = new VirtualTime(random)
    const time = this.#time
    this.#ledger = new SharingLedger(
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
      ttlShare: 1,
      onExpired: (key, value) => {
        const { heartbeatPrefix } = this.#keys
        if (key.startsWith(heartbeatPrefix))
          this.#ledger.sessionExpired(`${key.slice(heartbeatPrefix.length)}:${value}`)
      },
      afterWrite: () => this.#ledger.check(),
      log: options.onLog === undefined ? undefined : (text) => this.#log(text),
    })
    this.#ledger.onDealt = (consumer) => this.#dealt(consumer)
    this.#network = new ModelNetwork(time, this.#server)
    this.#network.onCommand = (process, name) => this.#sent(process, name)
    this.#network.slowShare = random.pick([0, 0.05])
    this.#network.greatestSlowMs = 100
    this.#network.hintLoss = random.pick([0, 0, 0.3])
    this.#network.hintDoubles = random.pick([0, 0.5])
    this.#network.answerLoss = random.pick([0, 0, 0.05])
    this.#events = EVENTS.filter((event) => event === 'join' || random.chance(0.5))
    this.#habits = {
      greatestWorkMs: 100,
      greatestCommits: 0,
      releases: 0,
      dawdles: 1,
      listens: 1,
      dozes: random.pick([0, 0, 0.2]),
      waysToLeave: ['release'],
      greatestLeaveMs: random.pick([0, 30, 600]),
    }
    this.#clientOptions = {
      heartbeatTtlMs: TTL_MS,
      lbsIdleTimeMs: 2 * TTL_MS,
      probeIntervalMs: random.pick([50, 100]),
      claimStaggerMs: random.pick([10, 50]),
      claimMode: random.pick(['auto', 'manual']),
      rebalance: {
        settleMs: random.pick([100, 300]),
        timeoutMs: 300,
        movesInFlight: random.pick([1, 4, 64]),
      },
      notificationBufferSize: random.pick([3, 500]),
      keyspaceEvents: 'off',
    }
    this.#streams = Array.from({ length: random.whole(4, 20) }, (_, index) => `s${index}`)
  }

  async run(): Promise<Outcome> {
    const random = this.#random
    for (let clients = random.whole(1, 3); clients > 0; clients--) this.#start()
    for (const stream of this.#streams) this.#add(stream)
    this.#expireSometimes()
    const faultsEndMs = random.between(2, 8) * TTL_MS
    this.#happen(random.between(0, 2 * TTL_MS), faultsEndMs)
    const isWrong = (): boolean => this.#ledger.violations.length > 0
    await this.#time.pass(faultsEndMs, isWrong)
    if (!isWrong()) {
      this.#log('-- calm')
      this.#network.heal()
      this.#isNextDealtDoomed = false
      this.#isNextDealLate = false
      this.#start()
      await this.#expectShares(isWrong)
    }
    if (!isWrong()) await this.#expectRest(isWrong)
    const { turns, nowMs: virtualMs } = this.#time
    return { seed: this.#seed, violations: this.#ledger.violations, turns, virtualMs, ownerlessMs: 0 }
  }

  async #expectShares(isWrong: () => boolean): Promise<void> {
    const untilMs = this.#time.nowMs + EVEN_MS
    while (!isWrong() && !this.#isEven) {
      if (this.#time.nowMs > untilMs) {
        const sizes = this.#living.map(({ client, name }) => `${name} ${client?.owned.size ?? 0}`)
        const text = `${this.#streams.length} streams are not shared evenly ${EVEN_MS} ms after the last fault`
        return this.#ledger.fail(`${text}: ${sizes.join()}`)
      }
      await this.#time.pass(this.#time.nowMs + LOOK_MS, isWrong)
    }
  }

  /** When all have their shares, nothing moves. */
  async #expectRest(isWrong: () => boolean): Promise<void> {
    const untilMs = this.#time.nowMs + UNDER_WAY_MS + REST_MS
    let takes = -1
    let sinceMs = this.#time.nowMs
    while (!isWrong() && this.#time.nowMs - sinceMs < REST_MS) {
      if (this.#ledger.takes !== takes) {
        takes = this.#ledger.takes
        sinceMs = this.#time.nowMs
      }
      if (this.#time.nowMs > untilMs) return this.#ledger.fail('streams go on moving at rest')
      await this.#time.pass(this.#time.nowMs + LOOK_MS, isWrong)
    }
  }

  get #living(): ModelProcess[] {
    return this.#processes.filter((process) => !process.isDead && !process.isClosing)
  }

  get #isEven(): boolean {
    const facts = this.#living.map(({ options }) => ({
      weight: options.weight ?? 1,
      maxOwnedStreams: Number.POSITIVE_INFINITY,
    }))
    const level = waterLevel(this.#streams.length, facts)
    return this.#living.every(({ client }, index) => {
      const share = shareAt(level, facts[index] as (typeof facts)[number])
      return Math.abs((client?.owned.size ?? 0) - share) <= Math.max(1, TOLERANCE * share)
    })
  }

  #believers(stream: string): string[] {
    return this.#processes.flatMap((process) => {
      const owned: OwnedStream | undefined = process.isDead ? undefined : process.client?.owned.get(stream)
      if (owned === undefined || !this.#time.as(process, () => process.trusts(owned))) return []
      return [(owned as StreamHandle).session.consumer]
    })
  }

  #start(): void {
    const id = `c${this.#starts++}`
    const weight = this.#random.pick([1, 1, 2])
    const process = new ModelProcess(id, id, { ...this.#clientOptions, weight }, 1, {
      network: this.#network,
      random: this.#random,
      service: SERVICE,
      habits: this.#habits,
      isCalm: () => false,
      onCommitted: () => undefined,
      onProblem: (problem) => this.#ledger.fail(problem),
      log: (text) => this.#log(text),
      onRefused: (_, { code }) => {
        if (code === 'CONSUMER_ID_IN_USE') this.#ledger.fail(`${id} was told that its id is in use`)
      },
      onExit: () => undefined,
    })
    this.#processes.push(process)
    process.start()
  }

  #add(stream: string): void {
    const text = JSON.stringify({ DataStreamName: stream, Info: { n: this.#ledger.add(stream) } })
    this.#server.write((data) => data.xadd(this.#keys.lbs, [LBS_FIELD, text]))
  }

  #expireSometimes(): void {
    this.#server.expire()
    this.#time.at(this.#time.nowMs + 20, null, () => this.#expireSometimes())
  }

  #happen(inMs: number, untilMs: number): void {
    const atMs = this.#time.nowMs + inMs
    if (atMs >= untilMs) return
    this.#time.at(atMs, null, () => {
      const event = this.#random.pick(this.#events)
      this.#log(`-- ${event}`)
      this.#act(event)
      this.#happen(this.#random.between(0, TTL_MS), untilMs)
    })
  }

  #act(event: Event): void {
    const random = this.#random
    const living = this.#living
    const [someone] = living.length > 1 ? [random.pick(living)] : []
    switch (event) {
      case 'join':
        if (living.length < GREATEST_CLIENTS) this.#start()
        break
      case 'leave':
        someone?.leave('close')
        break
      case 'kill':
        someone?.kill()
        break
      case 'kill-once-dealt':
        this.#isNextDealtDoomed = true
        break
      case 'stall':
      case 'pause': {
        const ms = random.between(0, event === 'stall' ? TTL_MS / 2 : 2 * TTL_MS)
        if (someone !== undefined) someone.pausedUntilMs = this.#time.nowMs + ms
        break
      }
      case 'cut': {
        const links = someone === undefined ? [] : this.#network.linksOf(someone)
        if (links.length > 0) random.pick(links).cut(true)
        break
      }
      case 'cut-off':
        if (someone !== undefined) this.#network.cutOff(someone, random.between(0, 2 * TTL_MS))
        break
      case 'late-deal':
        this.#isNextDealLate = true
        break
      case 'stick-server':
        // Once: a client whose session is lost again and again is given nothing for a long time.
        if (!this.#wasStuck) this.#network.stickServer(random.between(0, 2 * TTL_MS))
        this.#wasStuck = true
        break
      case 'plan-by-hand':
        // Two at once: neither knows what the other has read and published.
        for (const process of living.slice(0, 2)) process.rebalance()
        break
      case 'false-hint':
        this.#publishFalseHint()
        break
      default:
        event satisfies never
    }
  }

  /** What a client asks for arrives when its session is over. */
  #sent(process: Process, name: string): void {
    if (!this.#isNextDealLate || name !== 'deal') return
    this.#isNextDealLate = false
    this.#network.cutOff(process, this.#random.between(1, 2) * TTL_MS)
  }

  /** A client dies before it hears of what it was dealt. */
  #dealt(consumer: string): void {
    if (!this.#isNextDealtDoomed || this.#living.length < 2) return
    const doomed = this.#living.find(({ id }) => consumer.startsWith(`redis-consumer-${id}:`))
    if (doomed === undefined) return
    this.#isNextDealtDoomed = false
    this.#time.at(this.#time.nowMs, null, () => doomed.kill())
  }

  #publishFalseHint(): void {
    const { failoverChannel, group, lbs } = this.#keys
    const random = this.#random
    const { data } = this.#server
    const consumers = data.hasGroup(lbs, group) ? data.xinfoConsumers(lbs, group).map(({ name }) => name) : []
    const [consumer, level] = [
      random.pick([...consumers, 'pool:1', 'nobody:1']),
      random.pick([null, 0.5, 100]),
    ]
    const message = random.pick([{ type: 'plan' }, { type: 'waiting', consumer, level, living: 1 }])
    const nobody = { push: () => undefined }
    this.#server.call(nobody, 'publish', [failoverChannel, JSON.stringify(message)], () => undefined)
  }

  #log(text: string): void {
    this.#options.onLog?.(`${this.#time.nowMs.toFixed(1).padStart(8)} ${text}`)
  }
}
