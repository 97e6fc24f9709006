/**
 * A master with a replica, watched by three sentinels, all processes of this machine.
 *
 *     await using set = await SentinelSet.start()
 *     const redis = set.client()
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis, type RedisOptions } from 'ioredis'
import { reapAtExit } from './child-reaper.js'
import { eventually } from './eventually.js'
import { releasePort, takePort } from './ports.js'
import { RedisServer, serverBinary } from './redis-server.js'

const MASTER_NAME = 'main'
const SENTINELS = 3
const QUORUM = 2
const DOWN_AFTER_MS = 800
const FAILOVER_TIMEOUT_MS = 5_000
const READY = { timeoutMs: 20_000, everyMs: 50 }

/** A sentinel, which can be paused and ended. */
export class Sentinel {
  readonly port: number
  readonly redis: Redis
  readonly #dir: string
  readonly #child: ChildProcess

  private constructor(dir: string, port: number, child: ChildProcess) {
    this.#dir = dir
    this.port = port
    this.#child = child
    this.redis = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 50, enableReadyCheck: false })
    this.redis.on('error', () => undefined)
  }

  static async start(masterPort: number): Promise<Sentinel> {
    const dir = await mkdtemp(join(tmpdir(), 'rsc-'))
    const port = await takePort()
    const file = join(dir, 'sentinel.conf')
    await writeFile(
      file,
      [
        `port ${port}`,
        'bind 127.0.0.1',
        `dir ${dir}`,
        `sentinel monitor ${MASTER_NAME} 127.0.0.1 ${masterPort} ${QUORUM}`,
        `sentinel down-after-milliseconds ${MASTER_NAME} ${DOWN_AFTER_MS}`,
        `sentinel failover-timeout ${MASTER_NAME} ${FAILOVER_TIMEOUT_MS}`,
        '',
      ].join('\n'),
    )
    const { bin, env } = serverBinary()
    const child = spawn(bin, [file, '--sentinel'], { env: { ...process.env, ...env }, stdio: 'ignore' })
    reapAtExit(child)
    return new Sentinel(dir, port, child)
  }

  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.redis.disconnect()
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await exited
    }
    releasePort(this.port)
    await rm(this.#dir, { recursive: true, force: true })
  }
}

export class SentinelSet implements AsyncDisposable {
  /** The first of them begins as the master. */
  readonly servers: readonly [RedisServer, RedisServer]
  readonly sentinels: Sentinel[] = []
  readonly #clients: Redis[] = []

  private constructor(servers: readonly [RedisServer, RedisServer]) {
    this.servers = servers
  }

  /** Resolves when the replica is in step and every sentinel knows it and the other sentinels. */
  static async start(): Promise<SentinelSet> {
    const args = ['--repl-diskless-sync-delay', '0']
    const master = await RedisServer.start({ args })
    const replica = await RedisServer.start({
      args: [...args, '--replicaof', '127.0.0.1', `${master.port}`],
    })
    const set = new SentinelSet([master, replica])
    try {
      for (let i = 0; i < SENTINELS; i++) set.sentinels.push(await Sentinel.start(master.port))
      await set.#ready()
      return set
    } catch (error) {
      await set[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A client that asks the sentinels where the master is; disconnected when the set is disposed of. */
  client(options: Omit<RedisOptions, 'replyMapping'> = {}): Redis {
    const sentinels = this.sentinels.map(({ port }) => ({ host: '127.0.0.1', port }))
    const client = new Redis({ sentinels, name: MASTER_NAME, ...options })
    client.on('error', () => undefined)
    this.#clients.push(client)
    return client
  }

  /** Resolves when a majority of the sentinels that answer name this server as the master. */
  async masterIs(server: RedisServer): Promise<void> {
    await eventually(
      `the sentinels name ${server.port} as the master`,
      async () => {
        const answers = await Promise.allSettled(this.sentinels.map((sentinel) => masterPortOf(sentinel)))
        return answers.map((answer) => (answer.status === 'fulfilled' ? answer.value : null))
      },
      (ports) => ports.filter((port) => port === server.port).length >= QUORUM,
      READY,
    )
  }

  /** Resolves when this replica has what its master has, but for what is under way. */
  async inStep(replica: RedisServer): Promise<void> {
    await eventually(
      `the replica on ${replica.port} is in step`,
      async () => ((await replica.client().role()) as unknown[])[3],
      (state) => state === 'connected',
      READY,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.disconnect()
    await Promise.all(this.sentinels.map((sentinel) => sentinel[Symbol.asyncDispose]()))
    await Promise.all(this.servers.map((server) => server[Symbol.asyncDispose]()))
  }

  async #ready(): Promise<void> {
    await eventually(
      'every sentinel knows the replica and the other sentinels',
      async () =>
        await Promise.all(
          this.sentinels.map(async ({ redis }) => {
            const facts = (await redis.call('SENTINEL', 'MASTER', MASTER_NAME)) as string[]
            const fact = (name: string): string => facts[facts.indexOf(name) + 1] ?? ''
            return [fact('flags'), fact('num-slaves'), fact('num-other-sentinels')].join(' ')
          }),
        ),
      (seen) => seen.every((facts) => facts === `master 1 ${SENTINELS - 1}`),
      READY,
    )
    await eventually(
      'the replica is in step',
      async () => await Promise.all(this.sentinels.map(({ redis }) => replicaLinkSeenBy(redis))),
      (links) => links.every((link) => link === 'ok'),
      READY,
    )
  }
}

async function masterPortOf({ redis }: Sentinel): Promise<number> {
  const answer = redis.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', MASTER_NAME) as Promise<string[]>
  const timeout = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error('no answer')), 500).unref()
  })
  const [, port] = await Promise.race([answer, timeout])
  return Number(port)
}

async function replicaLinkSeenBy(redis: Redis): Promise<string> {
  const [replica = []] = (await redis.call('SENTINEL', 'REPLICAS', MASTER_NAME)) as string[][]
  return replica[replica.indexOf('master-link-status') + 1] ?? ''
}
