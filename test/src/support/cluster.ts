/**
 * A Redis Cluster of one's own: masters with a replica each, all processes of this machine.
 *
 *     await using cluster = await RedisCluster.start()
 *     const redis = cluster.client()
 *
 * It is made with CLUSTER commands instead of redis-cli, which is not at hand wherever a server is.
 */
import { Cluster, type ClusterOptions, type Redis } from 'ioredis'
import { eventually } from './eventually.js'
import { RedisServer } from './redis-server.js'

const SLOTS = 16_384
const NODE_TIMEOUT_MS = 1_500
const MAX_STARTS = 10
const READY = { timeoutMs: 20_000, everyMs: 50 }
const MIGRATE_TIMEOUT_MS = 5_000
const KEYS_PER_MIGRATE = 100

export interface ClusterNode {
  readonly server: RedisServer
  /** For looking, and for causing trouble. */
  readonly redis: Redis
  readonly id: string
}

export interface RedisClusterOptions {
  readonly masters?: number
  /** One replica for each master; true by default. */
  readonly replicas?: boolean
  /** More arguments for each server. */
  readonly args?: readonly string[]
}

export class RedisCluster implements AsyncDisposable {
  /** All of them, in the order of their start: masters, then the replica of each, then those added later. */
  readonly nodes: ClusterNode[] = []
  readonly #args: readonly string[]
  readonly #clients: Cluster[] = []

  private constructor(args: readonly string[]) {
    this.#args = args
  }

  /** Resolves when every node sees a cluster whose slots are all served and whose replicas are in step. */
  static async start(options: RedisClusterOptions = {}): Promise<RedisCluster> {
    const { masters = 3, replicas = true, args = [] } = options
    const cluster = new RedisCluster(args)
    try {
      const count = replicas ? 2 * masters : masters
      cluster.nodes.push(...(await Promise.all(Array.from({ length: count }, () => cluster.#startNode()))))
      await cluster.#form(masters)
      return cluster
    } catch (error) {
      await cluster[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A client, disconnected when the cluster is disposed of. */
  client(options: Omit<ClusterOptions, 'redisOptions'> = {}): Cluster {
    const startup = this.nodes
      .filter(({ server }) => server.isRunning)
      .map(({ server }) => ({ host: '127.0.0.1', port: server.port }))
    const client = new Cluster(startup, options)
    client.on('error', () => undefined)
    this.#clients.push(client)
    return client
  }

  /** The master that serves the slot of a key now, as the living nodes see it. */
  async ownerOf(key: string): Promise<ClusterNode> {
    const slot = await this.slotOf(key)
    const owner = await eventually(
      `somebody serves slot ${slot}`,
      async () => {
        for (const node of this.#living()) {
          const [first] = (await node.redis.cluster('SLOTS'))
            .filter(([from, to]) => Number(from) <= slot && slot <= Number(to))
            .map(([, , master]) => master)
          const found = this.#living().find(({ server }) => server.port === Number(first?.[1]))
          if (found !== undefined) return found
        }
        return undefined
      },
      (node) => node !== undefined,
      READY,
    )
    return owner as ClusterNode
  }

  /** A replica that is in step with this master. */
  async replicaOf({ server }: ClusterNode): Promise<ClusterNode> {
    const found = await eventually(
      'a replica is in step',
      async () => {
        const roles = await Promise.all(
          this.#living().map(async (node) => ({ node, role: await node.redis.role() })),
        )
        return roles.find(({ role }) => {
          const [kind, , port, state] = role as unknown[]
          return kind === 'slave' && port === server.port && state === 'connected'
        })?.node
      },
      (node) => node !== undefined,
      READY,
    )
    return found as ClusterNode
  }

  async slotOf(key: string): Promise<number> {
    return Number(await (this.#living()[0] as ClusterNode).redis.cluster('KEYSLOT', key))
  }

  /** Adds a master without slots. */
  async addNode(): Promise<ClusterNode> {
    const [first] = this.#living()
    const node = await this.#startNode()
    this.nodes.push(node)
    await this.#meet(first as ClusterNode, node)
    await this.#allKnow(this.#living().length)
    await this.#allWell()
    return node
  }

  /**
   * Moves the slot of a key to another master, key by key, as resharding does. `onHalfWay` is called while the slot
   * is migrating and some of its keys are on either side.
   */
  async moveSlot(key: string, target: ClusterNode, onHalfWay?: () => Promise<void>): Promise<void> {
    const slot = await this.slotOf(key)
    const source = await this.ownerOf(key)
    await target.redis.cluster('SETSLOT', slot, 'IMPORTING', source.id)
    await source.redis.cluster('SETSLOT', slot, 'MIGRATING', target.id)
    const keys = await source.redis.cluster('GETKEYSINSLOT', slot, KEYS_PER_MIGRATE)
    const half = Math.ceil(keys.length / 2)
    await this.#migrate(source, target, keys.slice(0, half))
    await onHalfWay?.()
    for (;;) {
      const rest = await source.redis.cluster('GETKEYSINSLOT', slot, KEYS_PER_MIGRATE)
      if (rest.length === 0) break
      await this.#migrate(source, target, rest)
    }
    for (const { redis } of [target, source]) await redis.cluster('SETSLOT', slot, 'NODE', target.id)
    for (const { redis } of await this.masters()) {
      await redis.cluster('SETSLOT', slot, 'NODE', target.id)
    }
  }

  async masters(): Promise<ClusterNode[]> {
    const roles = await Promise.all(
      this.#living().map(async (node) => ({ node, role: (await node.redis.role()) as unknown[] })),
    )
    return roles.filter(({ role }) => role[0] === 'master').map(({ node }) => node)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.disconnect()
    await Promise.all(this.nodes.map(({ server }) => server[Symbol.asyncDispose]()))
  }

  #living(): ClusterNode[] {
    return this.nodes.filter(({ server }) => server.isRunning)
  }

  async #migrate(source: ClusterNode, target: ClusterNode, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return
    const { port } = target.server
    await source.redis.call('MIGRATE', '127.0.0.1', port, '', 0, MIGRATE_TIMEOUT_MS, 'KEYS', ...keys)
  }

  /** The bus listens on the port plus 10,000, so not every free port will do. */
  async #startNode(): Promise<ClusterNode> {
    for (let starts = 1; ; starts++) {
      try {
        const server = await RedisServer.start({
          args: [
            ...['--cluster-enabled', 'yes', '--cluster-node-timeout', `${NODE_TIMEOUT_MS}`],
            ...['--cluster-replica-validity-factor', '0', '--cluster-require-full-coverage', 'no'],
            ...['--repl-diskless-sync-delay', '0', ...this.#args],
          ],
        })
        const redis = server.client({ enableReadyCheck: false })
        return { server, redis, id: String(await redis.cluster('MYID')) }
      } catch (error) {
        if (starts === MAX_STARTS) throw error
      }
    }
  }

  async #form(masters: number): Promise<void> {
    const [first] = this.nodes as [ClusterNode]
    for (const [index, { redis }] of this.nodes.entries()) {
      await redis.cluster('SET-CONFIG-EPOCH', index + 1)
      if (index >= masters) continue
      const from = Math.floor((SLOTS * index) / masters)
      const to = Math.floor((SLOTS * (index + 1)) / masters)
      await redis.cluster('ADDSLOTS', ...Array.from({ length: to - from }, (_, slot) => from + slot))
    }
    for (const node of this.nodes.slice(1)) await this.#meet(first, node)
    await this.#allKnow(this.nodes.length)
    for (const [index, { redis }] of this.nodes.slice(masters).entries()) {
      const { id } = this.nodes[index] as ClusterNode
      await eventually('the replica takes its master', () => redis.cluster('REPLICATE', id), Boolean, READY)
    }
    await this.#allWell()
  }

  async #allWell(): Promise<void> {
    await eventually(
      'all slots are served and all replicas in step',
      async () => await Promise.all(this.#living().map(stateOf)),
      (states) => states.every((state) => state === 'ok'),
      READY,
    )
  }

  async #meet(known: ClusterNode, node: ClusterNode): Promise<void> {
    await node.redis.cluster('MEET', '127.0.0.1', known.server.port)
  }

  async #allKnow(count: number): Promise<void> {
    await eventually(
      `every node knows ${count} nodes`,
      async () =>
        await Promise.all(
          this.#living().map(async ({ redis }) =>
            Number(/cluster_known_nodes:(\d+)/.exec(String(await redis.cluster('INFO')))?.[1]),
          ),
        ),
      (counts) => counts.every((known) => known >= count),
      READY,
    )
  }
}

async function stateOf({ redis }: ClusterNode): Promise<string> {
  const state = /cluster_state:(\w+)/.exec(String(await redis.cluster('INFO')))?.[1]
  if (state !== 'ok') return `cluster_state ${state}`
  const [role, , , link] = (await redis.role()) as unknown[]
  return role === 'slave' && link !== 'connected' ? `replica ${String(link)}` : 'ok'
}
