/**
 * Makes connections like the application's one in address, credentials and TLS, and in nothing that would change what
 * this library does.
 */
import type { Cluster, Redis, RedisOptions } from 'ioredis'
import { isRefusal } from './redis-errors.js'

export type RedisLike = Redis | Cluster

export interface DuplicateOptions {
  /** Shown by CLIENT LIST. */
  readonly name: string
  /** Deadline of each command. */
  readonly commandTimeoutMs: number
  /** False: it ends with its first failure. */
  readonly reconnects: boolean
  /** Tries in a row that have failed before this connection was made. */
  readonly failures: number
}

/** What ioredis reads at each connect, so that what the application changes counts from the next one on. */
const LIVE_OPTIONS = [
  'username',
  'password',
  'tls',
  'sentinelUsername',
  'sentinelPassword',
  'sentinelTLS',
] as const
const LEAST_RECONNECT_MS = 20
const GREATEST_RECONNECT_MS = 500
const DISCONNECT_TIMEOUT_MS = 10
const MAX_REDIRECTIONS = 16
const TRY_AGAIN_MS = 100
const SLOTS_REFRESH_INTERVAL_MS = 5000

const allowedConnectMs = new WeakMap<RedisLike, number>()

export function isCluster(redis: RedisLike): redis is Cluster {
  return redis.isCluster
}

/** The database the application's connection works on, also when it was chosen with SELECT. */
export function databaseOf(redis: RedisLike): number {
  if (isCluster(redis)) return 0
  const { condition } = redis as unknown as { condition?: { select?: number } | null }
  return condition?.select ?? redis.options.db ?? 0
}

/** How long the application lets a try to connect take; ours, which are templates too, may have less at the moment. */
export function connectTimeoutOf(template: RedisLike): number {
  const allowedMs = allowedConnectMs.get(template)
  if (allowedMs !== undefined) return allowedMs
  const options = isCluster(template) ? template.options.redisOptions : template.options
  return options?.connectTimeout || 10_000 // the default of ioredis
}

/** How long the tries to connect may take. */
class ConnectTime {
  readonly #leastMs: number
  readonly #greatestMs: number
  #hasConnected = false

  constructor(template: RedisLike, { commandTimeoutMs }: DuplicateOptions) {
    this.#greatestMs = connectTimeoutOf(template)
    this.#leastMs = Math.min(commandTimeoutMs, this.#greatestMs)
  }

  hearReady(): void {
    this.#hasConnected = true
  }

  /**
   * The first try has as long as a command, because an address may have gone silent and the next one is better. A server
   * that has been slow to reach from the beginning gets what the application allows; later it is approached in steps.
   */
  afterFailures(failures: number): number {
    if (failures > 0 && !this.#hasConnected) return this.#greatestMs
    return Math.min(this.#greatestMs, this.#leastMs * 2 ** Math.min(failures, 20))
  }
}

export function duplicate(template: RedisLike, options: DuplicateOptions): RedisLike {
  const redis = isCluster(template) ? duplicateCluster(template, options) : duplicateRedis(template, options)
  allowedConnectMs.set(redis, connectTimeoutOf(template))
  return redis
}

/** An option that is not named here tells how to reach a server, or does not concern what is sent. */
function commonOptions(options: DuplicateOptions, connectTimeout: number) {
  return {
    connectionName: options.name,
    commandTimeout: options.commandTimeoutMs,
    connectTimeout,
    // ioredis waits this long for the other side to close as well, which a half-open connection never does.
    disconnectTimeout: DISCONNECT_TIMEOUT_MS,
    keyPrefix: '',
    stringNumbers: false,
    replyMapping: 'legacy' as const,
    showFriendlyErrorStack: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false, // ioredis does it without looking at the answer
    // After a failover the old address may answer as a replica: look for the master again. A Cluster whose connections
    // to masters have broken asks replicas, which say MOVED to commands and this to scripts.
    reconnectOnError: (error: Error) => error.message.includes('READONLY'),
    maxRetriesPerRequest: 0,
    maxLoadingRetryTime: GREATEST_RECONNECT_MS,
    enableReadyCheck: true,
    lazyConnect: true,
    enableAutoPipelining: false,
    socketTimeout: undefined,
    blockingTimeout: undefined,
    monitor: false,
    scripts: undefined, // they may have the names of commands
    himportFieldsets: undefined,
  }
}

function duplicateRedis(template: Redis, options: DuplicateOptions): Redis {
  const time = new ConnectTime(template, options)
  const settings: RedisOptions = {
    ...commonOptions(options, time.afterFailures(options.failures)),
    db: databaseOf(template),
    role: 'master',
    failoverDetector: false, // its connections to sentinels print their errors
    // A sentinel that hangs accepts connections: without a deadline the others would never be asked.
    sentinelCommandTimeout: options.commandTimeoutMs,
    sentinelRetryStrategy: (times) => (options.reconnects ? reconnectDelayMs(times) : null),
    enableOfflineQueue: false,
    readOnly: false,
    retryStrategy: (times) => {
      redis.options.connectTimeout = time.afterFailures(times)
      return options.reconnects ? reconnectDelayMs(times) : null
    },
  }
  const redis: Redis = template.duplicate(settings) as Redis
  redis.on('ready', () => time.hearReady())
  readLive(redis.options, () => template.options)
  softenReadyCheck(redis)
  endOwnDeadline(redis)
  return redis
}

function duplicateCluster(template: Cluster, options: DuplicateOptions): Cluster {
  const time = new ConnectTime(template, options)
  let connectTimeout = time.afterFailures(options.failures)
  const common = commonOptions(options, connectTimeout)
  const before = { ...template.options.redisOptions }
  const cluster: Cluster = template.duplicate([], {
    lazyConnect: true,
    enableOfflineQueue: false,
    enableReadyCheck: false, // asks CLUSTER INFO, which a login may not be permitted
    enableAutoPipelining: false,
    scaleReads: 'master',
    maxRedirections: MAX_REDIRECTIONS,
    // Above 0 ioredis sends a command again by itself: entries read by the first try would be missed.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    retryDelayOnTryAgain: TRY_AGAIN_MS,
    retryDelayOnMoved: 0,
    slotsRefreshTimeout: connectTimeout,
    slotsRefreshInterval: SLOTS_REFRESH_INTERVAL_MS,
    clusterNodeRetryStrategy: null,
    shardedSubscribers: false,
    scripts: undefined,
    clusterRetryStrategy: (times: number) => {
      connectTimeout = time.afterFailures(times)
      cluster.options.slotsRefreshTimeout = connectTimeout
      return options.reconnects ? reconnectDelayMs(times) : null
    },
    redisOptions: { ...before, ...common },
  }) as Cluster
  const liveOptions = (): RedisOptions => template.options.redisOptions ?? {}
  readLive(cluster.options.redisOptions as RedisOptions, liveOptions)
  cluster.on('ready', () => time.hearReady())
  cluster.on('+node', (node: Redis) => {
    allowedConnectMs.set(node, connectTimeoutOf(template))
    node.options.connectTimeout = connectTimeout
    readLive(node.options, liveOptions, before)
    softenReadyCheck(node)
    listenToAsking(node)
  })
  return cluster
}

/**
 * The deadline of ioredis, which knows no progress, is for what it sends itself until the connection is ready: what comes
 * after that is sent by Connection.run, which has one of its own.
 */
function endOwnDeadline(redis: Redis): void {
  const { commandTimeout } = redis.options
  if (commandTimeout === undefined) return
  redis.on('ready', () => delete redis.options.commandTimeout)
  redis.on('close', () => {
    redis.options.commandTimeout = commandTimeout
  })
}

/**
 * How many bytes have come over the present connection. Of a Cluster 0: what one node sends says nothing of the answer
 * that another one owes.
 */
export function bytesReceived(redis: RedisLike): number {
  return isCluster(redis) ? 0 : (socketOf(redis)?.bytesRead ?? 0)
}

/** How many bytes have come over the present connection, or those of a Cluster. */
export function bytesReceivedFromAll(redis: RedisLike): number {
  if (!isCluster(redis)) return bytesReceived(redis)
  return redis.nodes('all').reduce((sum, node) => sum + bytesReceived(node), 0)
}

/** How many bytes were handed over to be sent over the present connection. Of a Cluster 0, as above. */
export function bytesWritten(redis: RedisLike): number {
  return isCluster(redis) ? 0 : (socketOf(redis)?.bytesWritten ?? 0)
}

/** There is none before the first try. */
function socketOf({ stream }: Redis): { bytesRead?: number; bytesWritten?: number } | null | undefined {
  return stream
}

/**
 * Has `options` read credentials and TLS from where the application changes them. A start node of a Cluster may have
 * some of its own, which differ from those it had `before`: they stay.
 */
function readLive(options: RedisOptions, source: () => RedisOptions, before?: RedisOptions): void {
  for (const name of LIVE_OPTIONS) {
    const isOwn =
      before !== undefined &&
      ![before[name], source()[name]].some((each) => (each ?? null) === (options[name] ?? null))
    if (isOwn) continue
    Object.defineProperty(options, name, { configurable: true, enumerable: true, get: () => source()[name] })
  }
}

/**
 * Before it calls a connection ready, ioredis asks INFO; behind sentinels that finds former masters. Where INFO is not
 * permitted it prints to the console, and where there is no such command it never gets ready.
 */
function softenReadyCheck(redis: Redis): void {
  const info = redis.info.bind(redis) as (...args: unknown[]) => Promise<string>
  const check = async (callback: (error: unknown, answer?: string) => void): Promise<void> => {
    let answer = ''
    try {
      answer = await info('replication')
    } catch (error) {
      if (!isRefusal(error)) return callback(error)
    }
    callback(null, answer)
  }
  const asked = (...args: unknown[]): Promise<unknown> =>
    typeof args[0] === 'function' ? check(args[0] as Parameters<typeof check>[0]) : info(...args)
  redis.info = asked as typeof redis.info
}

/** Before a command that was answered ASK, a Cluster sends ASKING, and nobody listens to whether that fails. */
function listenToAsking(node: Redis): void {
  const asking = node.asking.bind(node)
  node.asking = (...args) => {
    const answer = asking(...args)
    answer.catch(() => undefined) // what it was sent for fails too
    return answer
  }
}

export function reconnectDelayMs(times: number): number {
  return (
    Math.min(LEAST_RECONNECT_MS * 2 ** Math.min(times - 1, 20), GREATEST_RECONNECT_MS) *
    (0.5 + Math.random() / 2)
  )
}
