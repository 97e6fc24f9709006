/**
 * A service under test: its clients in this process (`join`) and in others (`spawn`), a producer, and what Redis
 * holds of it. Disposing of it ends all of them and checks what holds at any time.
 *
 *     await using fleet = new Fleet(server, { heartbeatTtlMs: 500 })
 */
import { type JsonObjectWithBigInts, LbsProducer, type OwnedStream } from '@redis-stream-client/client'
import type { Redis } from 'ioredis'
import { ConsumerProcess, type ConsumerProcessOptions } from './consumer-process.js'
import { eventually } from './eventually.js'
import { clientOptionsOf, Member, type MemberOptions } from './member.js'
import type { RedisServer } from './redis-server.js'
import { ServiceState } from './service-state.js'
import { Witness } from './witness.js'

let services = 0

export interface FleetOptions extends MemberOptions {
  readonly service?: string
}

export interface JoinOptions extends MemberOptions {
  /** The connection the client is given; one of the fleet's own by default. */
  readonly redis?: Redis
}

export interface SpawnOptions extends Omit<ConsumerProcessOptions, 'service' | 'url'> {
  readonly url?: string
}

export class Fleet implements AsyncDisposable {
  readonly service: string
  readonly server: RedisServer
  /** For looking, and for causing trouble. */
  readonly redis: Redis
  readonly state: ServiceState
  readonly witness: Witness = new Witness()
  readonly members: Member[] = []
  readonly processes: ConsumerProcess[] = []
  readonly #options: MemberOptions
  readonly #producer: LbsProducer
  #template: Redis | undefined

  /** `options` are the defaults of all its clients. */
  constructor(server: RedisServer, { service, ...options }: FleetOptions = {}) {
    process.env['LOG_LEVEL'] ??= 'silent'
    this.service = service ?? `orders-${++services}`
    this.server = server
    this.redis = server.client()
    this.state = new ServiceState(this.redis, this.service)
    this.#options = options
    this.#producer = new LbsProducer(this.redis, this.service)
  }

  /** A client in this process that has not been initialised. */
  make(name: string, { redis, ...options }: JoinOptions = {}): Member {
    this.#template ??= this.server.client({ lazyConnect: true })
    const settings = { ...this.#options, ...options }
    const member = new Member(redis ?? this.#template, this.service, name, settings, this.witness)
    this.members.push(member)
    return member
  }

  async join(name: string, options: JoinOptions = {}): Promise<Member> {
    return await this.make(name, options).init()
  }

  /** A client in a process of its own; resolves when it is initialised. */
  async spawn(name: string, options: SpawnOptions = {}): Promise<ConsumerProcess> {
    const consumer = this.start(name, options)
    await consumer.ready()
    return consumer
  }

  /** As `spawn`, without waiting. */
  start(name: string, options: SpawnOptions = {}): ConsumerProcess {
    const { logger: _logger, metrics: _metrics, ...defaults } = clientOptionsOf(this.#options)
    const consumer = ConsumerProcess.start(name, {
      url: this.server.url,
      service: this.service,
      ...options,
      client: { ...defaults, ...options.client },
    })
    this.processes.push(consumer)
    return consumer
  }

  /** Waits until every client of this process reads the LBS and hears what the others publish. */
  async allReading(): Promise<void> {
    const channel = `${this.service}-failover`
    await eventually(
      'all clients read and are subscribed',
      async () => {
        const readers = this.members.filter(({ client }) => client.health().connections.reader === 'ready')
        const [, subscribed] = await this.redis.pubsub('NUMSUB', channel)
        return [readers.length, Number(subscribed)]
      },
      ([readers = 0, subscribed = 0]) => Math.min(readers, subscribed) >= this.members.length,
    )
  }

  /** Adds a data stream to the LBS; resolves with the id of the entry. */
  async add(dataStreamName: string, info?: JsonObjectWithBigInts): Promise<string> {
    return await this.#producer.add(dataStreamName, info)
  }

  async addAll(dataStreamNames: readonly string[]): Promise<void> {
    await Promise.all(dataStreamNames.map((name) => this.add(name)))
  }

  /** Waits until each of these streams is owned by somebody, as Redis sees it. */
  async allOwned(dataStreamNames: readonly string[], timeoutMs: number = 15_000): Promise<void> {
    await eventually(
      `all of ${dataStreamNames.length} streams are owned`,
      async () => {
        const locks = await this.state.locks()
        const missing = dataStreamNames.filter((name) => (locks[name]?.owner ?? null) === null)
        return { missing: missing.length, first: missing.slice(0, 3) }
      },
      ({ missing }) => missing === 0,
      { timeoutMs, everyMs: 25 },
    )
  }

  /** Waits until the service has nothing left to do and nobody holds anything. */
  async allDone(timeoutMs: number = 15_000): Promise<void> {
    await eventually(
      'nothing is left in the LBS, the pending entries, the locks, the checkpoints and the backlogs',
      () => this.state.leftovers(),
      (left) =>
        left.entries + left.pending === 0 && [left.locks, left.checkpoints, left.backlogs].every(isEmpty),
      { timeoutMs, everyMs: 25 },
    )
  }

  /** Every stream owned by a client of this process, with its owner. */
  holdings(): { owner: Member; stream: OwnedStream }[] {
    return this.members.flatMap((owner) =>
      [...owner.client.owned.values()].map((stream) => ({ owner, stream })),
    )
  }

  /**
   * Ends all clients. Rejects if a data stream had two owners at once or a fence that did not grow, or if a client
   * has left a connection or, closed in good order, its heartbeat key behind.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([
      ...this.members.map((member) => member.close()),
      ...this.processes.map((consumer) => consumer.kill()),
    ])
    try {
      if (this.server.isRunning) await this.#nothingLeft()
      if (this.witness.violations.length > 0) throw new Error(this.witness.violations.slice(0, 10).join('\n'))
    } finally {
      this.redis.disconnect()
      this.#template?.disconnect()
    }
  }

  async #nothingLeft(): Promise<void> {
    await eventually(
      'no client has left a connection or a heartbeat key',
      async () => {
        const list = String(await this.redis.client('LIST'))
        const connections = [...list.matchAll(/ name=(\S+)/g)].map(([, name]) => name as string)
        const keys = await Promise.all(
          this.members.map(async ({ client }) => {
            const key = this.state.heartbeatKey(client.id)
            return (await this.redis.exists(key)) === 1 ? key : ''
          }),
        )
        return [...connections.filter((name) => name.startsWith(`${this.service}:`)), ...keys.filter(Boolean)]
      },
      isEmpty,
    )
  }
}

function isEmpty(list: readonly unknown[]): boolean {
  return list.length === 0
}
