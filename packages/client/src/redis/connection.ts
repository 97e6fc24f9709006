/**
 * Connections of the client's own, made like the application's one and never it.
 *
 * None queues commands while it is away, none sends a command twice by itself, every command has a deadline:
 * whether to try again is decided where the command comes from. One that does not answer in time is replaced,
 * because a half-open connection would swallow every further try as well.
 */
import type { StreamClientError } from '@redis-stream-client/notifs'
import type { Cluster, Redis, RedisOptions } from 'ioredis'
import { sleep } from '../async/sleep.js'
import { ClusterKeeper } from './cluster-keeper.js'
import { DeadlineError, isReply, isTransient, messageOf, redisError, scrub } from './redis-errors.js'

export type RedisLike = Redis | Cluster

const LEAST_RECONNECT_MS = 20
const GREATEST_RECONNECT_MS = 500
const OPEN_POLL_MS = 10
const DISCONNECT_TIMEOUT_MS = 10

export interface ConnectionOptions {
  /** Shown by CLIENT LIST. */
  readonly name: string
  /** Deadline of each command. */
  readonly commandTimeoutMs: number
  /** Default true. One that does not reconnect ends with its first failure. */
  readonly reconnects?: boolean
}

export class Connection {
  readonly redis: RedisLike
  readonly #commandTimeoutMs: number
  readonly #readyListeners: (() => void)[] = []
  readonly #keeper: ClusterKeeper | null
  #lastError: unknown = null
  #closed = false
  #wasReady = false

  constructor(template: RedisLike, options: ConnectionOptions) {
    this.#commandTimeoutMs = options.commandTimeoutMs
    this.redis = duplicate(template, options)
    const isKept = isCluster(this.redis) && (options.reconnects ?? true)
    this.#keeper = isKept ? new ClusterKeeper(this.redis as Cluster) : null
    this.redis.on('error', (error: unknown) => {
      this.#lastError = scrub(error)
    })
    this.redis.on('ready', () => {
      const isFirst = !this.#wasReady
      this.#wasReady = true
      if (!isFirst) for (const listener of this.#readyListeners) listener()
    })
  }

  /** ioredis's word for the state: `ready` when commands can be sent. */
  get status(): string {
    return this.redis.status
  }

  get lastError(): unknown {
    return this.#lastError
  }

  /** Calls `listener` every time the connection is ready again after it was lost. */
  onReconnect(listener: () => void): void {
    this.#readyListeners.push(listener)
  }

  /**
   * Connects. Resolves when commands can be sent; rejects with REDIS_ERROR when the server refuses
   * (password, permissions), when `timeoutMs` have passed, or when the signal aborts.
   */
  async open(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const until = performance.now() + timeoutMs
    this.redis.connect().catch((error: unknown) => {
      this.#lastError ??= scrub(error)
    })
    while (this.redis.status !== 'ready') {
      const isRefused = isReply(this.#lastError) && !isTransient(this.#lastError)
      const isOver = this.redis.status === 'end'
      if (isRefused || isOver || signal.aborted || performance.now() >= until) {
        throw this.#unreachable(timeoutMs)
      }
      await sleep(OPEN_POLL_MS, signal)
    }
  }

  /**
   * Runs commands with this connection's deadline. Rejects with what ioredis rejects with, or a DeadlineError;
   * after that the commands may still be executed.
   */
  async run<T>(command: (redis: RedisLike) => Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.replace()
        reject(new DeadlineError(this.#commandTimeoutMs))
      }, this.#commandTimeoutMs)
    })
    try {
      return await Promise.race([command(this.redis), deadline])
    } finally {
      clearTimeout(timer)
    }
  }

  /** Drops the connection at once; nothing is sent or received any more. Safe twice. */
  close(): void {
    this.#closed = true
    this.#keeper?.stop()
    this.redis.disconnect()
  }

  /** A connection that does not answer is given up for a new one. */
  replace(): void {
    if (!this.#closed && this.redis.status === 'ready') this.redis.disconnect(true)
  }

  #unreachable(timeoutMs: number): StreamClientError {
    const cause = this.#lastError ?? new DeadlineError(timeoutMs)
    return redisError('connect', new Error(`Redis cannot be reached: ${messageOf(cause)}`, { cause }))
  }
}

export function isCluster(redis: RedisLike): redis is Cluster {
  return redis.isCluster
}

/** The database the application's connection works on, also when it was chosen with SELECT. */
export function databaseOf(redis: RedisLike): number {
  if (isCluster(redis)) return 0
  const { condition } = redis as unknown as { condition?: { select?: number } | null }
  return condition?.select ?? redis.options.db ?? 0
}

/** A connection like `template` in address and credentials, and in nothing that would change what we do. */
function duplicate(template: RedisLike, options: ConnectionOptions): RedisLike {
  const reconnects = options.reconnects ?? true
  const retry = (times: number) => (reconnects ? reconnectDelayMs(times) : null)
  const common = {
    connectionName: options.name,
    commandTimeout: options.commandTimeoutMs,
    connectTimeout: options.commandTimeoutMs,
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
    socketTimeout: undefined,
    blockingTimeout: undefined,
    monitor: false,
  }
  if (isCluster(template)) {
    const cluster = template.duplicate([], {
      lazyConnect: true,
      enableOfflineQueue: false,
      enableAutoPipelining: false,
      scaleReads: 'master',
      // Above 0 ioredis sends a command again by itself: entries read by the first try would be missed.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      clusterRetryStrategy: retry,
      redisOptions: { ...template.options.redisOptions, ...common },
    }) as Cluster
    return cluster.on('+node', listenToAsking)
  }
  const standalone: RedisOptions = {
    ...common,
    db: databaseOf(template),
    // A sentinel that hangs accepts connections: without a deadline the others would never be asked.
    sentinelCommandTimeout: options.commandTimeoutMs,
    lazyConnect: true,
    enableOfflineQueue: false,
    enableAutoPipelining: false,
    readOnly: false,
    // Asks INFO, and where that is not permitted writes to the console. Behind sentinels it finds former masters.
    enableReadyCheck: template.options.sentinels != null,
    retryStrategy: retry,
  }
  return template.duplicate<RedisOptions>(standalone) as Redis
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

function reconnectDelayMs(times: number): number {
  return (
    Math.min(LEAST_RECONNECT_MS * 2 ** Math.min(times - 1, 20), GREATEST_RECONNECT_MS) *
    (0.5 + Math.random() / 2)
  )
}
