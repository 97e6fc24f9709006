/** Clients that work, each behind a network of its own that can fail, on a Redis of several servers. */
import { setTimeout as sleep } from 'node:timers/promises'
import { LbsProducer } from '@redis-stream-client/client'
import type { Cluster, Redis } from 'ioredis'
import { eventually } from './eventually.js'
import { Member } from './member.js'
import { Progress } from './progress.js'
import type { SeededRandom } from './seeded-random.js'
import { TcpProxy } from './tcp-proxy.js'
import { Witness } from './witness.js'

export const TTL_MS = 1000
const MEMBERS = 3
const STREAMS = 8
const STEP_MS = 20
const PRODUCE_EVERY_MS = 15
/** Until everything is done that was added, when nothing is wrong any more. */
const RECOVERY = { timeoutMs: 20_000, everyMs: 50 }

/** Addresses that servers tell, as `host:port`, and where a client finds them instead. */
export type NatMap = Readonly<Record<string, { readonly host: string; readonly port: number }>>

export interface ManyServers extends AsyncDisposable {
  /** Named so that all its keys are on one server. */
  readonly service: string
  readonly ports: readonly number[]
  /** A connection, not yet opened, that reaches the servers through proxies. */
  through(natMap: NatMap): Redis | Cluster
  client(): Redis | Cluster
  /** A connection to the server that has the service's keys now. */
  master(): Promise<Redis>
}

export type Faults<T> = Readonly<Record<string, (on: T, random: SeededRandom) => Promise<void>>>

export class HostileFleet implements AsyncDisposable {
  readonly witness: Witness = new Witness()
  readonly progress: Progress = new Progress(STEP_MS)
  /** Jobs whose adding was answered, and those that somebody has owned. */
  readonly added: Set<number> = new Set()
  readonly served: Set<number> = new Set()
  readonly #servers: ManyServers
  readonly #producer: LbsProducer
  readonly #members: { readonly member: Member; readonly proxies: readonly TcpProxy[] }[] = []
  #joined = 0
  #jobs = 0

  private constructor(servers: ManyServers) {
    process.env['LOG_LEVEL'] ??= 'silent'
    this.#servers = servers
    this.#producer = new LbsProducer(servers.client(), servers.service)
  }

  static async start(servers: ManyServers): Promise<HostileFleet> {
    const fleet = new HostileFleet(servers)
    for (let count = 0; count < MEMBERS; count++) await fleet.join()
    return fleet
  }

  async join(): Promise<void> {
    const { ports, service } = this.#servers
    const proxies = await Promise.all(ports.map((port) => TcpProxy.listen({ port })))
    const entries = proxies.map((proxy, index) => {
      return [`127.0.0.1:${ports[index]}`, { host: '127.0.0.1', port: proxy.port }] as const
    })
    const number = this.#joined++
    const member = new Member(
      // What is used of the connection is the same for both.
      this.#servers.through(Object.fromEntries(entries)) as Redis,
      service,
      `member-${number}`,
      {
        heartbeatTtlMs: TTL_MS,
        lbsIdleTimeMs: 4 * TTL_MS,
        claimStaggerMs: 30,
        claimMode: number % 2 === 0 ? 'auto' : 'manual',
        onStream: async (stream, owner) => {
          this.served.add(Number(stream.additionalInfo['job']))
          await this.progress.workOn(stream, owner)
        },
      },
      this.witness,
    )
    await member.init()
    this.#members.push({ member, proxies })
  }

  async leave(random: SeededRandom): Promise<void> {
    const leaving = random.pick(this.#members)
    this.#members.splice(this.#members.indexOf(leaving), 1)
    await leaving.member.close()
    await Promise.all(leaving.proxies.map((proxy) => proxy[Symbol.asyncDispose]()))
  }

  /** The network of one client: a proxy for each server. */
  network(random: SeededRandom): readonly TcpProxy[] {
    return random.pick(this.#members).proxies
  }

  /** Adds streams for as long as something else happens, and then waits until all of them are done. */
  async workWhile(what: string, happens: () => Promise<void>): Promise<void> {
    let isOver = false
    const producing = (async (): Promise<void> => {
      while (!isOver) {
        const job = this.#jobs++
        await this.#producer.add(`stream-${job % STREAMS}`, { job }).then(
          () => this.added.add(job),
          () => undefined, // added or not
        )
        await sleep(PRODUCE_EVERY_MS)
      }
    })()
    try {
      await happens()
    } finally {
      isOver = true
      await producing
    }
    await eventually(
      `everything is done after ${what}`,
      () => this.#left(),
      ({ entries, records }) => entries + records === 0,
      RECOVERY,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#members.map(({ member }) => member.close()))
    const proxies = this.#members.flatMap((each) => each.proxies)
    await Promise.all(proxies.map((proxy) => proxy[Symbol.asyncDispose]()))
  }

  async #left(): Promise<{ entries: number; records: number; pending: unknown; health: unknown }> {
    const { service } = this.#servers
    const redis = await this.#servers.master()
    const [entries, records, pending] = await Promise.all([
      redis.xlen(`${service}-input`),
      redis.hlen(`${service}-locks`),
      redis.xpending(`${service}-input`, `${service}-group`, '-', '+', 10),
    ])
    return { entries, records, pending, health: this.#members.map(({ member }) => member.client.health()) }
  }
}

export const FAULTS_OF_CLIENTS: Faults<HostileFleet> = {
  async cut(fleet, random) {
    for (const proxy of fleet.network(random)) proxy.cut()
  },
  async freeze(fleet, random) {
    const network = fleet.network(random)
    for (const proxy of network) proxy.freeze()
    await sleep(random.between(0.2, 2) * TTL_MS)
    for (const proxy of network) proxy.thaw()
  },
  async freezeOne(fleet, random) {
    const proxy = random.pick(fleet.network(random))
    proxy.freeze()
    await sleep(random.between(0.2, 2) * TTL_MS)
    proxy.thaw()
  },
  async delay(fleet, random) {
    const network = fleet.network(random)
    for (const proxy of network) proxy.delay(random.between(5, 100))
    await sleep(TTL_MS)
    for (const proxy of network) proxy.delay(0)
  },
  async dropReplies(fleet, random) {
    const network = fleet.network(random)
    for (let times = 0; times < 4; times++) {
      for (const proxy of network) proxy.dropReplies((request) => /evalsha|xreadgroup/i.test(request))
      await sleep(random.between(20, 200))
    }
  },
  async replaceMember(fleet, random) {
    await Promise.all([fleet.leave(random), fleet.join()])
  },
}
