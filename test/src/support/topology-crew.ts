/** Clients of one service on any kind of Redis, with a witness that no stream has two owners. */
import { type JsonObjectWithBigInts, LbsProducer, type OwnedStream } from '@redis-stream-client/client'
import type { Cluster, Redis } from 'ioredis'
import { eventually } from './eventually.js'
import { Member, type MemberOptions } from './member.js'
import { Witness } from './witness.js'

const OWNED_TIMEOUT_MS = 20_000

export class TopologyCrew implements AsyncDisposable {
  readonly service: string
  readonly members: Member[] = []
  readonly witness: Witness = new Witness()
  readonly #redis: Redis
  readonly #options: MemberOptions
  readonly #producer: LbsProducer

  constructor(redis: Redis | Cluster, service: string, options: MemberOptions = {}) {
    process.env['LOG_LEVEL'] ??= 'silent'
    // What is used of the connection is the same for both.
    this.#redis = redis as Redis
    this.service = service
    this.#options = { heartbeatTtlMs: 1000, lbsIdleTimeMs: 4000, claimStaggerMs: 50, ...options }
    this.#producer = new LbsProducer(redis, service)
  }

  async join(name: string, options: MemberOptions = {}): Promise<Member> {
    const settings = { ...this.#options, ...options }
    const member = new Member(this.#redis, this.service, name, settings, this.witness)
    this.members.push(member)
    return await member.init()
  }

  async add(dataStreamName: string, info?: JsonObjectWithBigInts): Promise<string> {
    return await this.#producer.add(dataStreamName, info)
  }

  /** The members' view: who owns what now. */
  holdings(): Map<string, { owner: Member; stream: OwnedStream }> {
    return new Map(
      this.members.flatMap((owner) =>
        [...owner.client.owned].map(([name, stream]) => [name, { owner, stream }] as const),
      ),
    )
  }

  /** Waits until each of these is owned by a member (with a fence above the one it had). */
  async allOwned(
    dataStreamNames: readonly string[],
    above: ReadonlyMap<string, number> = new Map(),
    timeoutMs: number = OWNED_TIMEOUT_MS,
  ): Promise<void> {
    await eventually(
      `all of ${dataStreamNames.length} streams are owned`,
      () => {
        const holdings = this.holdings()
        const missing = dataStreamNames.filter(
          (name) => !((holdings.get(name)?.stream.fencingToken ?? 0) > (above.get(name) ?? 0)),
        )
        return { missing, health: this.members.map(({ client }) => client.health()) }
      },
      ({ missing }) => missing.length === 0,
      { timeoutMs, everyMs: 25 },
    )
  }

  /** The fences of all streams owned now. */
  fences(): Map<string, number> {
    return new Map([...this.holdings()].map(([name, { stream }]) => [name, stream.fencingToken]))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.members.map((member) => member.close()))
    if (this.witness.violations.length > 0) throw new Error(this.witness.violations.slice(0, 10).join('\n'))
  }
}
