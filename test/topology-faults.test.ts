/**
 * Everything at once, while streams are worked on: nodes of a cluster fail, hand over and hang, their slot moves; behind
 * sentinels the master and the sentinels hang; and the networks of clients misbehave. A seed decides what happens in
 * which order; FAULTS_SECONDS and FAULTS_SEED make it longer and another one.
 *
 * What a failover can lose is another matter: a node that fails here has answered nothing that its replica has not.
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
/** Less than it takes until a server that does not answer is replaced, on a busy machine too: what it does then is lost. */
const GREATEST_HANG_MS = { cluster: 700, sentinels: 300 } as const
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
    await hang((await servers.owner()).server, random.between(0, GREATEST_HANG_MS.cluster))
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

  constructor(set: SentinelSet) {
    this.set = set
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
    return this.set.servers[0].client()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.set[Symbol.asyncDispose]()
  }
}

/** No failover: what a former master takes before a sentinel makes it a replica is lost with it. */
const FAULTS_OF_SENTINELS: Faults<SentinelServers> = {
  async hang({ set }, random) {
    await hang(set.servers[0], random.between(0, GREATEST_HANG_MS.sentinels))
  },
  async hangSentinel({ set }, random) {
    const sentinel = random.pick(set.sentinels)
    sentinel.pause()
    await sleep(random.between(0.5, 3) * TTL_MS)
    sentinel.resume()
  },
}

/** From now on nothing is written, and what was is on every replica. */
async function fallSilent(redis: Redis): Promise<void> {
  await redis.call('CLIENT', 'PAUSE', FAILOVER_TIMEOUT_MS, 'WRITE')
  await eventually(
    'replicas have everything',
    async () => (await redis.role()) as unknown as [role: string, offset: number, replicas: string[][]],
    ([, offset, replicas]) =>
      replicas.length > 0 && replicas.every((replica) => Number(replica[2]) >= offset),
  )
}

async function hang(server: RedisServer, ms: number): Promise<void> {
  server.pause()
  await sleep(ms)
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
