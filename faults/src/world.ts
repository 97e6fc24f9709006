/** Everything a run consists of: the server under test, the ledger, the workers, and what was asked of them. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClientOptions } from '@redis-stream-client/client'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { SeededRandom } from '@redis-stream-client/test/support/seeded-random'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import { Redis } from 'ioredis'
import { findViolations } from './checker.js'
import { CommitWatch } from './commit-watch.js'
import { Handlings } from './handlings.js'
import { monotonicMs, readHistory } from './history.js'
import { Jobs } from './jobs.js'
import { Ledger } from './ledger.js'
import { Records } from './records.js'
import { Shares } from './shares.js'
import { Standby } from './standby.js'
import { type Violation, violation } from './violation.js'
import type { Work } from './work.js'
import { WorkerProcess } from './worker-process.js'

export const SERVICE = 'faults'
export const TTL_MS = 800
const CLOSE_TIMEOUT_MS = 1500
/** How much longer than `closeTimeoutMs` a process may take to end. */
const END_GRACE_MS = 4000
const JOB_STEP_MS = 50
const RECORD_MS = 40
/** How long after a worker has done something its line about it may come. */
const LINE_LATENESS_MS = 1000

const FAILOVER_TIMEOUT_MS = 15_000
/** How long a write waits for the replica, where that is asked for. */
const REPLICA_TIMEOUT_MS = 100

const CLIENT: ClientOptions = { heartbeatTtlMs: TTL_MS, lbsIdleTimeMs: 5 * TTL_MS, claimStaggerMs: 30 }

/** So that streams move within a run, and owners that do not listen are not waited for. */
const REBALANCE = { settleMs: 400, timeoutMs: 600 } as const

export interface WorldOptions {
  /** Decides what the producers add. */
  readonly random: SeededRandom
  /** What the server keeps over a crash. */
  readonly persistence: 'aof' | 'rdb'
  readonly work: 'jobs' | 'records' | 'shares'
  readonly weakenedModule: string | undefined
  /** A replica is always there, and owners and producers wait for it. */
  readonly withReplica?: boolean
}

export class World implements AsyncDisposable {
  /** For looking, and for causing trouble: leads to the server under test, whichever that is. */
  readonly redis: Redis
  readonly work: Work
  readonly workers: WorkerProcess[] = []
  readonly violations: Violation[] = []
  /** What is worth saying in the report and is no violation. */
  readonly remarks: string[] = []
  readonly lossesAtMs: number[] = []
  readonly answers: Record<string, number> = {}
  readonly #options: WorldOptions
  readonly #dir: string
  readonly #ledgerServer: RedisServer
  readonly #front: TcpProxy
  readonly #ledger: Ledger
  readonly #watch: CommitWatch
  readonly #histories: { readonly worker: string; readonly file: string }[] = []
  #server: RedisServer
  #standby: Standby | undefined
  #connects = 0
  #answersSeen: ReadonlyMap<string, number> = new Map()
  #nextWorker = 1
  #isClosed = false

  private constructor(
    options: WorldOptions,
    dir: string,
    server: RedisServer,
    front: TcpProxy,
    ledgerServer: RedisServer,
  ) {
    this.#options = options
    this.#dir = dir
    this.#server = server
    this.#front = front
    this.redis = new Redis(front.url, { maxRetriesPerRequest: 0, commandTimeout: 2000 })
    this.redis.on('error', () => undefined)
    this.redis.on('ready', () => this.#connects++)
    this.#ledgerServer = ledgerServer
    const ledgerRedis = ledgerServer.client()
    this.#ledger = new Ledger(ledgerRedis)
    const { random, withReplica = false } = options
    const place = {
      redis: this.redis,
      service: SERVICE,
      connects: () => this.#connects,
      isClosed: () => this.#isClosed,
      random,
    }
    const jobs = { ...place, ledger: this.#ledger, endMs: CLOSE_TIMEOUT_MS }
    this.work = {
      jobs: () => new Jobs({ ...jobs, replicaTimeoutMs: withReplica ? REPLICA_TIMEOUT_MS : 0 }),
      records: () => new Records({ ...place, handlings: new Handlings(ledgerRedis) }),
      shares: () => new Shares(jobs),
    }[options.work]()
    this.#watch = new CommitWatch(front.port, `${SERVICE}-checkpoints`)
  }

  static async start(options: WorldOptions): Promise<World> {
    const dir = await mkdtemp(join(tmpdir(), 'rsc-'))
    const histories = join(dir, 'histories')
    await mkdir(histories)
    const { persistence } = options
    const [server, ledgerServer] = await Promise.all([
      RedisServer.start({ persistence }),
      RedisServer.start(),
    ])
    const front = await TcpProxy.listen(server)
    const world = new World(options, histories, server, front, ledgerServer)
    world.#watch.start()
    if (options.withReplica) world.#standby = await Standby.of(server, persistence)
    return world
  }

  /** The server under test; another one after a failover. */
  get server(): RedisServer {
    return this.#server
  }

  get counts(): Record<string, number> {
    return { ...this.work.counts, workers: this.#histories.length }
  }

  /** Starts a worker, by default under a name of its own, and waits until it has a session. */
  async addWorker(name = `worker-${this.#nextWorker}`, isAwaited = true): Promise<WorkerProcess> {
    const number = this.#nextWorker++
    const historyFile = join(this.#dir, `${number}.jsonl`)
    const { weakenedModule, withReplica } = this.#options
    const client = clientOptions(this.#options.work, number)
    const worker = await WorkerProcess.start(name, {
      server: this.server,
      ledgerUrl: this.#ledgerServer.url,
      service: SERVICE,
      historyFile,
      stepMs: this.work.program === 'worker' ? JOB_STEP_MS : RECORD_MS,
      client: withReplica ? { ...client, replicas: { count: 1, timeoutMs: REPLICA_TIMEOUT_MS } } : client,
      program: this.work.program,
      weakenedModule,
    })
    this.#histories.push({ worker: `${name}#${number}`, file: historyFile })
    if (isAwaited) await worker.ready()
    this.workers.push(worker)
    return worker
  }

  async killWorker(worker: WorkerProcess): Promise<void> {
    this.#forget(worker)
    await worker.kill()
  }

  /** Asks a worker to leave; it has to within its time. */
  async dismissWorker(worker: WorkerProcess): Promise<void> {
    this.#forget(worker)
    const problem = await worker.leave(this.work.endMs + END_GRACE_MS)
    if (problem !== null) this.violations.push(violation('bad end', problem))
  }

  /**
   * The worker whose handler of this job never returns: whoever took it, however late its entry came. Undefined if
   * nobody has taken it, and then nobody's will hang any more, or if that worker was killed.
   */
  async holderThatHangs(job: number, timeoutMs: number): Promise<WorkerProcess | undefined> {
    const holder = await this.#findHolder(job, timeoutMs)
    if (holder !== undefined || (await this.#ledger.mayHang(job))) return holder
    return await this.#findHolder(job, LINE_LATENESS_MS)
  }

  /** Resolves when a session of this worker was seen to be kept. */
  async seesSessionOf(name: string): Promise<void> {
    let lastMs = Number.POSITIVE_INFINITY
    await eventually(
      `${name} extends its session`,
      async () => {
        const leftMs = await this.redis.pttl(`${SERVICE}-heartbeat:redis-consumer-${name}`)
        const isExtended = leftMs > lastMs
        lastMs = leftMs
        return isExtended
      },
      Boolean,
      { everyMs: TTL_MS / 20 },
    )
  }

  /**
   * Waits until every data stream that had work outstanding has gone on, or has none left. Answers the streams that
   * have not within `timeoutMs`.
   */
  async waitForProgress(timeoutMs: number): Promise<string[]> {
    const untilMs = monotonicMs() + timeoutMs
    await this.work.read()
    const before = this.work.progress()
    const streams = new Set(this.work.outstanding().keys())
    for (;;) {
      await this.work.read()
      const progress = this.work.progress()
      const outstanding = this.work.outstanding()
      for (const stream of streams) {
        const hasGoneOn = progress.get(stream) !== before.get(stream)
        if (hasGoneOn || !outstanding.has(stream)) streams.delete(stream)
      }
      if (streams.size === 0 || monotonicMs() > untilMs) return [...streams]
      await sleep(25)
    }
  }

  /**
   * Kills the server and goes on with a replica of it that has not got what was answered for the last `behindMs`.
   * Nobody can connect for `awayMs`; then the address everybody knows leads to the replica.
   */
  async failOver({ behindMs, awayMs }: { behindMs: number; awayMs: number }): Promise<void> {
    const { persistence, withReplica } = this.#options
    const former = this.#server
    const standby = this.#standby ?? (await Standby.of(former, persistence))
    this.#standby = standby
    await standby.inStep()
    standby.fallBehind()
    await sleep(behindMs)
    await former.kill()
    await sleep(awayMs)
    this.#server = await standby.promote()
    this.#standby = undefined
    this.#front.aim(this.#server)
    for (const { proxy } of this.workers) proxy.aim(this.#server)
    await former[Symbol.asyncDispose]()
    await eventually('the address leads to the replica', () => this.redis.ping(), Boolean, {
      timeoutMs: FAILOVER_TIMEOUT_MS,
    })
    if (withReplica) this.#standby = await Standby.of(this.#server, persistence)
  }

  /** Errors that Redis has answered, by their first word, as far as its statistics were read before it went. */
  async countAnswers(): Promise<void> {
    const text = await this.redis.info('errorstats').catch(() => '')
    const now = new Map([...text.matchAll(/^errorstat_([^:]+):count=(\d+)/gm)].map(readAnswer))
    for (const [error, count] of now) {
      const seen = this.#answersSeen.get(error) ?? 0
      this.answers[error] = (this.answers[error] ?? 0) + (count >= seen ? count - seen : count)
    }
    if (now.size > 0) this.#answersSeen = now
  }

  /** Redis has come back with less than it had answered. */
  async noteLoss(): Promise<void> {
    this.lossesAtMs.push(monotonicMs())
    await this.work.noteLoss()
  }

  /** What Redis still holds of a service that has nothing to do. */
  async leftovers(): Promise<string[]> {
    const names = ['input', 'locks', 'checkpoints'].map((part) => `${SERVICE}-${part}`)
    const backlogs = [
      ...(await this.redis.keys(`${SERVICE}-backlog:*`)),
      ...(await this.redis.keys(`${SERVICE}-late:*`)),
    ]
    const [entries, locks, checkpoints] = await Promise.all([
      this.redis.xlen(names[0] as string),
      this.lockedStreams(),
      this.redis.hlen(names[2] as string),
    ])
    return [
      ...(entries > 0 ? [`${entries} entries`] : []),
      ...locks.map((stream) => `the lock record of ${stream}`),
      ...(checkpoints > 0 ? [`${checkpoints} checkpoints`] : []),
      ...backlogs,
      ...(await this.work.leftovers()),
    ]
  }

  async lockedStreams(): Promise<string[]> {
    return await this.redis.hkeys(`${SERVICE}-locks`)
  }

  /** The present fence and owner of each stream, as Redis has them. */
  async owners(): Promise<ReadonlyMap<string, { readonly fence: string; readonly worker: string }>> {
    const records = await this.redis.hgetall(`${SERVICE}-locks`)
    return new Map(
      Object.entries(records).map(([stream, record]) => {
        const [, fence = '', , , , owner = ''] = record.split(' ')
        return [stream, { fence, worker: owner.slice(0, owner.lastIndexOf(':')) }]
      }),
    )
  }

  /** How often owners were asked to give streams. */
  get given(): number {
    return this.#rebalances('giving').length
  }

  /** Who has published the last plan. */
  get lastPlanner(): WorkerProcess | undefined {
    return this.#rebalances('planned').sort((a, b) => b.at - a.at)[0]?.worker
  }

  /** What Redis holds of streams that nobody works on, as far as it answers. */
  async describe(streams: readonly string[]): Promise<string[]> {
    return await this.#describe(streams).catch((error: Error) => [
      `Redis does not say more: ${error.message}`,
    ])
  }

  async #describe(streams: readonly string[]): Promise<string[]> {
    const pending = (await this.redis.xpending(
      `${SERVICE}-input`,
      `${SERVICE}-group`,
      '-',
      '+',
      100,
    )) as unknown[][]
    const lines = await Promise.all(
      streams.map(async (stream) => {
        const record = await this.redis.hget(`${SERVICE}-locks`, stream)
        const owner = record?.split(' ').at(-1) ?? ''
        const colon = owner.lastIndexOf(':')
        const token = await this.redis.get(`${SERVICE}-heartbeat:${owner.slice(0, colon)}`)
        const isAlive = token !== null && token === owner.slice(colon + 1)
        const waiting =
          (await this.redis.llen(`${SERVICE}-backlog:${stream}`)) +
          (await this.redis.zcard(`${SERVICE}-late:${stream}`))
        const row = pending.find(([id]) => id === record?.split(' ')[0])
        return `${stream}: record ${record} (owner alive: ${isAlive}), pending ${JSON.stringify(row)}, ${waiting} wait`
      }),
    )
    const consumers = (await this.redis.xinfo(
      'CONSUMERS',
      `${SERVICE}-input`,
      `${SERVICE}-group`,
    )) as unknown[]
    return [
      ...lines,
      JSON.stringify(consumers),
      JSON.stringify(await this.redis.xinfo('GROUPS', `${SERVICE}-input`)),
    ]
  }

  /** All that was found so far. */
  async verdict(): Promise<Violation[]> {
    const histories = await Promise.all(this.#histories.map(({ worker, file }) => readHistory(worker, file)))
    const { lossesAtMs } = this
    const keepsAcknowledged = lossesAtMs.length === 0 || this.#options.withReplica === true
    const evidence = { histories, lossesAtMs, keepsAcknowledged, heartbeatTtlMs: TTL_MS }
    return [
      ...this.violations,
      ...findViolations(evidence),
      ...(await this.work.violations(this.#watch.accepted)),
    ]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    this.#watch.stop()
    await Promise.all(this.workers.map((worker) => worker.kill()))
    this.redis.disconnect()
    await this.#front[Symbol.asyncDispose]()
    const servers = [
      this.#server,
      this.#ledgerServer,
      ...(this.#standby === undefined ? [] : [this.#standby]),
    ]
    await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()))
    await rm(join(this.#dir, '..'), { recursive: true, force: true })
  }

  #rebalances(role: 'planned' | 'giving'): { readonly worker: WorkerProcess; readonly at: number }[] {
    return this.workers.flatMap((worker) =>
      worker.program.lines
        .filter((line) => line['type'] === 'rebalance' && line['role'] === role)
        .map((line) => ({ worker, at: Number(line['at']) })),
    )
  }

  #forget(worker: WorkerProcess): void {
    const index = this.workers.indexOf(worker)
    if (index >= 0) this.workers.splice(index, 1)
  }

  async #findHolder(job: number, timeoutMs: number): Promise<WorkerProcess | undefined> {
    const untilMs = monotonicMs() + timeoutMs
    for (;;) {
      const holder = this.workers.find(({ program }) =>
        program.lines.some((line) => line['type'] === 'hanging' && line['job'] === job),
      )
      if (holder !== undefined || monotonicMs() > untilMs) return holder
      await sleep(25)
    }
  }
}

function clientOptions(work: WorldOptions['work'], number: number): ClientOptions {
  if (work === 'records') return CLIENT
  const claimMode = number % 2 === 0 ? 'auto' : 'manual'
  const options = { ...CLIENT, claimMode, closeTimeoutMs: CLOSE_TIMEOUT_MS } as const
  return work === 'jobs' ? { ...options, maxOwnedStreams: 6 } : { ...options, rebalance: REBALANCE }
}

function readAnswer([, error, count]: RegExpMatchArray): [error: string, count: number] {
  return [error as string, Number(count)]
}
