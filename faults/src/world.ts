/** Everything a run consists of: the server under test, the ledger, the workers, and what was asked of them. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ClientOptions, LbsProducer } from '@redis-stream-client/client'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { SeededRandom } from '@redis-stream-client/test/support/seeded-random'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import { Redis } from 'ioredis'
import { CommitWatch } from './commit-watch.js'
import { monotonicMs, readHistory, type WorkerHistory } from './history.js'
import { Ledger, STEPS } from './ledger.js'
import { Standby } from './standby.js'
import { WorkerProcess } from './worker-process.js'

export const SERVICE = 'faults'
export const TTL_MS = 800
const CLOSE_TIMEOUT_MS = 1500
/** How much longer than `closeTimeoutMs` a process may take to end. */
const END_GRACE_MS = 4000
const STEP_MS = 50
const STREAMS = 8
const GREATEST_OUTSTANDING = 24
/** How long after a worker has done something its line about it may come. */
const LINE_LATENESS_MS = 1000

const FAILOVER_TIMEOUT_MS = 15_000
/** How long a write waits for the replica, where that is asked for. */
const REPLICA_TIMEOUT_MS = 100

const CLIENT: ClientOptions = {
  heartbeatTtlMs: TTL_MS,
  lbsIdleTimeMs: 5 * TTL_MS,
  claimStaggerMs: 30,
  closeTimeoutMs: CLOSE_TIMEOUT_MS,
  maxOwnedStreams: 6,
}

export interface WorldOptions {
  /** Decides what the producers add. */
  readonly random: SeededRandom
  /** What the server keeps over a crash. */
  readonly persistence: 'aof' | 'rdb'
  readonly clientModule: string | undefined
  /** A replica is always there, and owners and producers wait for it. */
  readonly withReplica?: boolean
}

interface Job {
  readonly job: number
  readonly stream: string
  /** False if the producer got no answer: it may have been added or not. */
  isConfirmed: boolean
}

export class World implements AsyncDisposable {
  /** For looking, and for causing trouble: leads to the server under test, whichever that is. */
  readonly redis: Redis
  readonly ledger: Ledger
  readonly workers: WorkerProcess[] = []
  readonly violations: string[] = []
  /** What is worth saying in the report and is no violation. */
  readonly remarks: string[] = []
  readonly lossesAtMs: number[] = []
  readonly answers: Record<string, number> = {}
  readonly #options: WorldOptions
  readonly #dir: string
  readonly #ledgerServer: RedisServer
  readonly #front: TcpProxy
  readonly #producer: LbsProducer
  readonly #watch: CommitWatch
  readonly #jobs = new Map<number, Job>()
  readonly #stepsDone = new Map<number, Set<number>>()
  readonly #stepsRead = new Map<string, number>()
  readonly #histories: { readonly worker: string; readonly file: string }[] = []
  #server: RedisServer
  #standby: Standby | undefined
  #connects = 0
  #answersSeen: ReadonlyMap<string, number> = new Map()
  #nextJob = 1
  #nextWorker = 1
  #malformed = 0
  #lost = 0

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
    this.ledger = new Ledger(ledgerServer.client())
    this.#producer = new LbsProducer(this.redis, SERVICE)
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
    const jobs = [...this.#jobs.values()]
    return {
      added: jobs.filter(({ isConfirmed }) => isConfirmed).length + this.#lost,
      unanswered: jobs.filter(({ isConfirmed }) => !isConfirmed).length - this.#lost,
      done: [...this.#jobs.keys()].filter((job) => this.#isDone(job)).length,
      lostByRedis: this.#lost,
      malformed: this.#malformed,
      workers: this.#histories.length,
      commits: this.#watch.commits.length,
    }
  }

  /** Starts a worker, by default under a name of its own, and waits until it has a session. */
  async addWorker(name = `worker-${this.#nextWorker}`, isAwaited = true): Promise<WorkerProcess> {
    const number = this.#nextWorker++
    const historyFile = join(this.#dir, `${number}.jsonl`)
    const { clientModule, withReplica } = this.#options
    const client: ClientOptions = { ...CLIENT, claimMode: number % 2 === 0 ? 'auto' : 'manual' }
    const worker = await WorkerProcess.start(name, {
      server: this.server,
      ledgerUrl: this.#ledgerServer.url,
      service: SERVICE,
      historyFile,
      stepMs: STEP_MS,
      client: withReplica ? { ...client, replicas: { count: 1, timeoutMs: REPLICA_TIMEOUT_MS } } : client,
      clientModule,
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
    const problem = await worker.leave(CLOSE_TIMEOUT_MS + END_GRACE_MS)
    if (problem !== null) this.violations.push(problem)
  }

  /** Adds a job to one of the data streams, now and then twice, now and then nonsense beside it. */
  async produce(): Promise<void> {
    if (this.outstanding().length >= GREATEST_OUTSTANDING) {
      await this.readLedger()
      return
    }
    const { random } = this.#options
    const stream = `stream-${Math.floor(random.between(0, STREAMS))}`
    await this.addJob(stream)
    if (random.chance(0.03)) {
      await this.redis.xadd(`${SERVICE}-input`, '*', 'lbs-input', '{"DataStreamName":7}').then(
        () => this.#malformed++,
        () => undefined,
      )
    }
  }

  async addJob(stream: string, info: { hangs?: boolean } = {}): Promise<number> {
    const job = this.#nextJob++
    await this.ledger.addRecords(job)
    const entry: Job = { job, stream, isConfirmed: false }
    this.#jobs.set(job, entry)
    const times = this.#options.random.chance(0.1) ? 2 : 1
    for (let time = 0; time < times; time++) {
      const isConfirmed = await this.#add(stream, { job, ...info }).catch(() => false)
      entry.isConfirmed ||= isConfirmed // otherwise added or not: nothing is promised
    }
    return job
  }

  /** Answers whether it is promised that the entry stays. */
  async #add(stream: string, info: { readonly job: number }): Promise<boolean> {
    const connects = this.#connects
    await this.#producer.add(stream, info)
    if (!this.#options.withReplica) return true
    const replicas = await this.redis.wait(1, REPLICA_TIMEOUT_MS)
    return replicas > 0 && connects === this.#connects // another connection knows nothing of the entry
  }

  /**
   * The worker whose handler of this job never returns: whoever took it, however late its entry came. Undefined if
   * nobody has taken it, and then nobody's will hang any more, or if that worker was killed.
   */
  async holderThatHangs(job: number, timeoutMs: number): Promise<WorkerProcess | undefined> {
    const holder = await this.#findHolder(job, timeoutMs)
    if (holder !== undefined || (await this.ledger.mayHang(job))) return holder
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

  /** Jobs that were added for sure and are not done. */
  outstanding(): Job[] {
    return [...this.#jobs.values()].filter(({ job, isConfirmed }) => isConfirmed && !this.#isDone(job))
  }

  /** Reads what the ledger has new; answers whether that is anything. */
  async readLedger(): Promise<boolean> {
    let isNew = false
    const streams = new Set([...this.#jobs.values()].map(({ stream }) => stream))
    for (const stream of streams) {
      const from = this.#stepsRead.get(stream) ?? 0
      const steps = await this.ledger.steps(stream, from)
      this.#stepsRead.set(stream, from + steps.length)
      isNew ||= steps.length > 0
      for (const { job, step } of steps) {
        const done = this.#stepsDone.get(job) ?? new Set()
        this.#stepsDone.set(job, done.add(step))
      }
    }
    return isNew
  }

  /**
   * Waits until every data stream that had work outstanding has gone on, or has none left. Answers the streams that
   * have not within `timeoutMs`.
   */
  async waitForProgress(timeoutMs: number): Promise<string[]> {
    const untilMs = monotonicMs() + timeoutMs
    await this.readLedger()
    const stepsBefore = new Map(this.#stepsRead)
    const streams = new Set(this.outstanding().map(({ stream }) => stream))
    for (;;) {
      await this.readLedger()
      const unfinished = new Set(this.outstanding().map(({ stream }) => stream))
      for (const stream of streams) {
        const hasGoneOn = this.#stepsRead.get(stream) !== stepsBefore.get(stream)
        if (hasGoneOn || !unfinished.has(stream)) streams.delete(stream)
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

  /**
   * Redis has come back with less than it had answered. What is gone for good is not waited for any more, unless a
   * replica was waited for.
   */
  async noteLoss(): Promise<void> {
    this.lossesAtMs.push(monotonicMs())
    if (this.#options.withReplica) return
    await this.readLedger()
    const left = await this.#jobsInRedis()
    for (const entry of this.outstanding()) {
      if (left.has(entry.job)) continue
      entry.isConfirmed = false
      this.#lost++
    }
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
    ]
  }

  async lockedStreams(): Promise<string[]> {
    return await this.redis.hkeys(`${SERVICE}-locks`)
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

  async evidence(): Promise<{
    histories: WorkerHistory[]
    commits: CommitWatch['commits']
    lossesAtMs: number[]
    keepsAcknowledged: boolean
    heartbeatTtlMs: number
  }> {
    const histories = await Promise.all(this.#histories.map(({ worker, file }) => readHistory(worker, file)))
    const { commits } = this.#watch
    const { lossesAtMs } = this
    const keepsAcknowledged = lossesAtMs.length === 0 || this.#options.withReplica === true
    return { histories, commits, lossesAtMs, keepsAcknowledged, heartbeatTtlMs: TTL_MS }
  }

  async [Symbol.asyncDispose](): Promise<void> {
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

  #isDone(job: number): boolean {
    return this.#stepsDone.get(job)?.size === STEPS
  }

  async #jobsInRedis(): Promise<Set<number>> {
    const entries = await this.redis.xrange(`${SERVICE}-input`, '-', '+')
    const texts = entries.map(([, fields]) => fields.join(' '))
    for (const key of await this.redis.keys(`${SERVICE}-backlog:*`)) {
      texts.push(...(await this.redis.lrange(key, 0, -1)))
    }
    for (const key of await this.redis.keys(`${SERVICE}-late:*`)) {
      texts.push(...(await this.redis.zrange(key, '0', '-1')))
    }
    return new Set(texts.flatMap((text) => (/job\W+(\d+)/.exec(text)?.slice(1) ?? []).map(Number)))
  }
}

function readAnswer([, error, count]: RegExpMatchArray): [error: string, count: number] {
  return [error as string, Number(count)]
}
