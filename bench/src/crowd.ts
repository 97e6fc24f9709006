/** Many clients of one service in a few processes, and one whose process can be killed without theirs. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStreams } from './assignments.js'
import { sharedNowMs } from './clock.js'
import { type Host, latest, total } from './host.js'
import type { JoinOptions } from './host-protocol.js'
import { heldByConsumer } from './pending.js'
import { Sandbox } from './sandbox.js'

const HOSTS = 4
const JOINS_AT_ONCE = 20
const LOOK_EVERY_MS = 50
const VICTIM = 'victim'

export interface CrowdOptions {
  readonly clients: number
  readonly ttlMs: number
  readonly settings?: Readonly<Record<string, unknown>>
}

/** How long something took, and how many sessions were lost meanwhile. */
export interface Course {
  readonly ms: number
  readonly sessionsLost: number
}

export class Crowd implements AsyncDisposable {
  readonly sandbox: Sandbox
  readonly service: string
  readonly hosts: readonly Host[]
  readonly #options: CrowdOptions
  #victim: Host | undefined
  #added = 0
  #lastJoinedAtMs = 0

  private constructor(sandbox: Sandbox, hosts: readonly Host[], options: CrowdOptions) {
    this.sandbox = sandbox
    this.service = sandbox.newService()
    this.hosts = hosts
    this.#options = options
  }

  static async open(options: CrowdOptions): Promise<Crowd> {
    const sandbox = await Sandbox.open()
    try {
      return new Crowd(sandbox, await sandbox.hosts('ours', Math.min(HOSTS, options.clients)), options)
    } catch (error) {
      await sandbox[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A few at a time. */
  async joinInTurn(): Promise<void> {
    const { clients } = this.#options
    for (let start = 0; start < clients; start += JOINS_AT_ONCE) {
      const indices = Array.from({ length: Math.min(JOINS_AT_ONCE, clients - start) }, (_, i) => start + i)
      await Promise.all(indices.map((index) => this.#join(index)))
    }
  }

  /** All at the same moment. Resolves with how many could not begin. */
  async joinTogether(): Promise<number> {
    const joins = Array.from({ length: this.#options.clients }, (_, index) => this.#join(index))
    return (await Promise.allSettled(joins)).filter(({ status }) => status === 'rejected').length
  }

  /** One more client, in a process of its own. */
  async joinVictim(): Promise<void> {
    this.#victim = await this.sandbox.host('ours')
    await this.#victim.join(VICTIM, this.#joinOptions)
  }

  /** Adds streams and waits until they have owners. */
  async own(streams: number): Promise<void> {
    await addStreams(this.sandbox.redis, this.service, streams, this.#added)
    this.#added += streams
    await this.untilOwned(this.#added)
  }

  /** Has each client own about so many more: reads that wait are answered in turn. */
  async ownEach(streams: number): Promise<void> {
    const clients = this.#options.clients + (this.#victim === undefined ? 0 : 1)
    for (let each = 0; each < streams; each++) await this.own(clients)
  }

  /** How many streams there are that a client which lives believes to own. */
  get owned(): number {
    return this.#sum('taken') - this.#sum('disowned')
  }

  get sessionsLost(): number {
    return this.#sum('sessionsLost')
  }

  get isEverySessionHeld(): boolean {
    return this.#sum('sessionsRegained') === this.sessionsLost
  }

  /** How many clients have lost a session more than once. */
  get lostTwice(): number {
    const losses = this.hosts.flatMap((host) => [...host.counts.values()].map((each) => each.sessionsLost))
    return losses.filter((count) => count > 1).length
  }

  async untilOwned(streams: number, timeoutMs = 60_000): Promise<void> {
    await this.until(`${streams} streams are owned`, () => this.owned >= streams, timeoutMs)
  }

  async until(what: string, isSo: () => boolean, timeoutMs: number): Promise<void> {
    for (const untilMs = sharedNowMs() + timeoutMs; !isSo(); await sleep(LOOK_EVERY_MS)) {
      if (sharedNowMs() < untilMs) continue
      const { owned, sessionsLost } = this
      throw new Error(`not within ${timeoutMs} ms: ${what}; ${JSON.stringify({ owned, sessionsLost })}`)
    }
  }

  /** Kills the one client. Resolves when the others own what it had. */
  async killVictim(timeoutMs: number): Promise<Course> {
    const all = this.owned
    const killedAtMs = this.loseVictim()
    const lostBefore = this.sessionsLost
    await this.untilOwned(all, timeoutMs)
    return {
      ms: latest(this.hosts, 'lastTakenAtMs') - killedAtMs,
      sessionsLost: this.sessionsLost - lostBefore,
    }
  }

  /** Kills the one client. Answers when. */
  loseVictim(): number {
    const victim = this.#victim
    if (victim === undefined) throw new Error('no victim has joined')
    this.#victim = undefined
    return victim.kill()
  }

  /** What the one client has, its name in the group, and how many streams each of the others has. */
  async ofVictim(): Promise<{ consumer: string; streams: number; others: number[] }> {
    const held = new Map(await heldByConsumer(this.sandbox.redis, this.service))
    const found = [...held].find(([name]) => name.startsWith(`redis-consumer-${VICTIM}:`))
    if (found === undefined) throw new Error('the victim owns nothing')
    const [consumer, streams] = found
    held.delete(consumer)
    const idle = Array.from({ length: this.#options.clients - held.size }, () => 0)
    return { consumer, streams, others: [...held.values(), ...idle] }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sandbox[Symbol.asyncDispose]()
  }

  get #joinOptions(): JoinOptions {
    const { settings, ttlMs } = this.#options
    const lbsIdleTimeMs = Math.max(40_000, 2 * ttlMs)
    return {
      service: this.service,
      keepsTimes: false,
      settings: { claimMode: 'auto', heartbeatTtlMs: ttlMs, lbsIdleTimeMs, ...settings },
    }
  }

  /** When the last client could begin, on the shared clock. */
  get lastJoinedAtMs(): number {
    return this.#lastJoinedAtMs
  }

  async #join(index: number): Promise<void> {
    await (this.hosts[index % this.hosts.length] as Host).join(`m${index}`, this.#joinOptions)
    this.#lastJoinedAtMs = sharedNowMs()
  }

  /** Of those that live. */
  #sum(count: 'taken' | 'disowned' | 'sessionsLost' | 'sessionsRegained'): number {
    const victims = this.#victim === undefined ? [] : [this.#victim]
    return total([...this.hosts, ...victims], count)
  }
}
