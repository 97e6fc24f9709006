/**
 * Everything at once: servers of a cluster or behind sentinels fail, hand over and hang, a slot moves, and the networks of
 * clients misbehave, while streams are worked on. A seed decides what happens in which order; FAULTS_SECONDS and
 * FAULTS_SEED make it longer and another one.
 *
 * What a failover can lose is another matter: a master here answers nothing any more that its replica has not.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster, type Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { type ClusterNode, RedisCluster } from './src/support/cluster.js'
import { eventually } from './src/support/eventually.js'
import {
  FAULTS_OF_CLIENTS,
  type Faults,
  HostileFleet,
  type ManyServers,
  type NatMap,
  TTL_MS,
} from './src/support/hostile-fleet.js'
import type { RedisServer } from './src/support/redis-server.js'
import { SeededRandom } from './src/support/seeded-random.js'
import { SentinelSet } from './src/support/sentinel.js'

const { FAULTS_SEED: seed = '1', FAULTS_SECONDS: seconds = '20' } = process.env
/** Less than it takes until a server that does not answer is replaced: what it does then is not kept. */
const GREATEST_HANG_MS = 700
const FAILOVER_TIMEOUT_MS = 30_000

class ClusterServers implements ManyServers {
  readonly service = '{faults}'
  readonly cluster: RedisCluster

  constructor(cluster: RedisCluster) {
    this.cluster = cluster
  }

  get ports(): number[] {
    return this.cluster.nodes.map(({ server }) => server.port)
  }

  through(natMap: NatMap): Cluster {
    return new Cluster(Object.values(natMap), { natMap, lazyConnect: true })
  }

  client(): Cluster {
    return this.cluster.client()
  }

  async owner(): Promise<ClusterNode> {
    return await this.cluster.ownerOf(`${this.service}-input`)
  }

  async master(): Promise<Redis> {
    return (await this.owner()).redis
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]()
  }
}

const FAULTS_OF_CLUSTER: Faults<ClusterServers> = {
  async moveSlot(servers, random) {
    const { cluster, service } = servers
    const owner = await servers.owner()
    const others = (await cluster.masters()).filter(({ id }) => id !== owner.id)
    const halfWayMs = random.between(0, 1.5 * TTL_MS)
    await cluster.moveSlot(`${service}-input`, random.pick(others), () => sleep(halfWayMs))
  },
  async handOver(servers) {
    const owner = await servers.owner()
    const replica = await servers.cluster.replicaOf(owner)
    await anotherOwns(servers, owner, () => replica.redis.cluster('FAILOVER'))
  },
  async failOver(servers) {
    const owner = await servers.owner()
    await servers.cluster.replicaOf(owner)
    await fallSilent(owner.redis)
    await owner.server.kill()
    await anotherOwns(servers, owner)
    await owner.server.startAgain()
  },
  async hang(servers, random) {
    await hang((await servers.owner()).server, random)
  },
}

/** Masters vote for one replica of a master at a time, and seldom: what was asked for is asked for again. */
async function anotherOwns(
  servers: ClusterServers,
  former: ClusterNode,
  ask?: () => Promise<unknown>,
): Promise<void> {
  await eventually(
    'another node has the slot',
    async () => {
      const owner = await servers.owner()
      if (owner.id === former.id) await ask?.()
      return owner
    },
    ({ id }) => id !== former.id,
    { timeoutMs: FAILOVER_TIMEOUT_MS, everyMs: 500 },
  )
}

class SentinelServers implements ManyServers {
  readonly service = 'faults'
  readonly set: SentinelSet
  #master: RedisServer

  constructor(set: SentinelSet) {
    this.set = set
    this.#master = set.servers[0]
  }

  get ports(): number[] {
    return this.set.servers.map(({ port }) => port)
  }

  through(natMap: NatMap): Redis {
    return this.set.client({ natMap, lazyConnect: true })
  }

  client(): Redis {
    return this.set.client()
  }

  async master(): Promise<Redis> {
    return this.#master.client()
  }

  /** The master, and the replica that is in step with it. */
  async roles(): Promise<{ master: RedisServer; replica: RedisServer }> {
    const master = this.#master
    const replica = this.set.servers.find((server) => server !== master) as RedisServer
    await this.set.inStep(replica)
    return { master, replica }
  }

  /** The replica has taken over; the former master follows it. */
  async takenOver(master: RedisServer, former: RedisServer): Promise<void> {
    await this.set.masterIs(master)
    this.#master = master
    await former.startAgain()
    await former.client().replicaof('127.0.0.1', master.port)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.set[Symbol.asyncDispose]()
  }
}

const FAULTS_OF_SENTINELS: Faults<SentinelServers> = {
  async failOver(servers) {
    const { master, replica } = await servers.roles()
    await fallSilent(master.client())
    await master.kill()
    await servers.takenOver(replica, master)
  },
  async hang(servers, random) {
    const { master } = await servers.roles()
    await hang(master, random)
  },
  async hangSentinel({ set }, random) {
    const sentinel = random.pick(set.sentinels)
    sentinel.pause()
    await sleep(random.between(0.5, 3) * TTL_MS)
    sentinel.resume()
  },
}

/** From now on nothing is written, and what was is on a replica. */
async function fallSilent(redis: Redis): Promise<void> {
  await redis.call('CLIENT', 'PAUSE', 5000, 'WRITE')
  await redis.wait(1, 5000)
}

async function hang(server: RedisServer, random: SeededRandom): Promise<void> {
  server.pause()
  await sleep(random.between(0.1, 1) * GREATEST_HANG_MS)
  server.resume()
}

async function playFaults<T extends ManyServers>(servers: T, faultsOfServers: Faults<T>): Promise<void> {
  const random = new SeededRandom(Number(seed))
  await using fleet = await HostileFleet.start(servers)
  const { added, progress, served, witness } = fleet
  const untilMs = performance.now() + Number(seconds) * 1000
  while (performance.now() < untilMs) {
    const ofServers = random.chance(0.6) ? random.pick(Object.keys(faultsOfServers)) : ''
    const ofClients =
      ofServers === '' || random.chance(0.5) ? random.pick(Object.keys(FAULTS_OF_CLIENTS)) : ''
    const what = `${ofServers} ${ofClients}`.trim()
    await fleet.workWhile(what, async () => {
      await Promise.all([
        faultsOfServers[ofServers]?.(servers, random.fork()),
        FAULTS_OF_CLIENTS[ofClients]?.(fleet, random.fork()),
      ])
    })
    expect([...witness.violations, ...progress.violations], what).toEqual([])
  }
  expect([...added].filter((job) => !served.has(job))).toEqual([])
  expect(added.size).toBeGreaterThan(0)
}

const OPTIONS = { timeout: (Number(seconds) + 120) * 1000 }

test('on Redis Cluster nothing is lost and no stream has two owners, whatever fails', OPTIONS, async () => {
  await using servers = new ClusterServers(await RedisCluster.start())
  await playFaults(servers, FAULTS_OF_CLUSTER)
})

test('behind sentinels nothing is lost and no stream has two owners, whatever fails', OPTIONS, async () => {
  await using servers = new SentinelServers(await SentinelSet.start())
  await playFaults(servers, FAULTS_OF_SENTINELS)
})
