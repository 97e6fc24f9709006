/**
 * Connections of the client's own, made like the application's one and never it.
 *
 * None queues commands while it is away, none sends a command twice by itself, every command has a deadline:
 * whether to try again is decided where the command comes from. One that does not answer in time is replaced,
 * because a half-open connection would swallow every further try as well. One that has nothing to do is sent a PING,
 * because load balancers and NAT may drop a quiet connection silently, and a subscriber would wait for ever.
 */
import type { StreamClientError } from '@redis-stream-client/notifs'
import type { Cluster } from 'ioredis'
import { startTimer } from '../async/timer.js'
import { Trigger } from '../async/trigger.js'
import { ClusterKeeper } from './cluster-keeper.js'
import {
  bytesReceived,
  connectTimeoutOf,
  duplicate,
  isCluster,
  type RedisLike,
  reconnectDelayMs,
} from './duplicate.js'
import { hearGreeting, peerOf } from './greeting.js'
import { DeadlineError, isReply, isTransient, messageOf, redisError, scrub } from './redis-errors.js'
import { SentBytes } from './sent-bytes.js'

/** What is waited for while it opens is looked at again after so long at the latest. */
const OPEN_POLL_MS = 100
/** In these states of ioredis a command could not be sent. */
const AWAY: ReadonlySet<string> = new Set(['connecting', 'close', 'reconnecting', 'end'])
/** The error where the other side has closed before it received a command. */
const HUNG_UP = /\b(EPIPE|ECONNRESET)\b/
const TIMED_OUT = 'Command timed out'
/** It says that there is no connection, and not why. */
const NO_REASON = 'Connection is closed.'
/** Another number each time, behind which one problem would look like many. */
const NEXT_TRY = / Retrying from scratch after [\d.]+ms\./

export interface ConnectionOptions {
  /** Shown by CLIENT LIST. */
  readonly name: string
  /** Deadline of each command. One that is quiet for longer is asked for a sign of life. */
  readonly commandTimeoutMs: number
  /** Where `commandTimeoutMs` comes from, for the error that says that it was too short. */
  readonly timeoutOrigin?: string
  /** Default true. One that does not reconnect ends with its first failure. */
  readonly reconnects?: boolean
  /** How often in a row one like this has failed: the longer it may take to connect. Default 0. */
  readonly failures?: number
}

export interface CommandDeadline {
  readonly timeoutMs: number
  /** Where the time comes from. */
  readonly timeoutOrigin: string
}

/** What keeps a connection away. */
export interface ConnectionProblem {
  readonly message: string
  readonly atMs: number
}

export class Connection {
  readonly redis: RedisLike
  readonly #deadline: CommandDeadline
  readonly #connectTimeoutMs: number
  readonly #reconnects: boolean
  readonly #readyListeners: (() => void)[] = []
  readonly #keeper: ClusterKeeper | null
  readonly #changes = new Trigger()
  #lastError: unknown = null
  #lastErrorAtMs = 0
  #closed = false
  #wasReady = false
  #ends = 0
  #underWay = 0
  #isHearing = false
  #peer: ReturnType<typeof peerOf> = null
  #wasUsed = false
  readonly #sent: SentBytes
  #lifeTimer: NodeJS.Timeout | undefined

  constructor(template: RedisLike, options: ConnectionOptions) {
    const { failures = 0, reconnects = true } = options
    this.#deadline = { timeoutMs: options.commandTimeoutMs, timeoutOrigin: options.timeoutOrigin ?? '' }
    this.#reconnects = reconnects
    this.#connectTimeoutMs = connectTimeoutOf(template)
    this.redis = duplicate(template, { ...options, failures, reconnects })
    this.#sent = new SentBytes(this.redis)
    this.#keeper = isCluster(this.redis) && reconnects ? new ClusterKeeper(this.redis as Cluster) : null
    const note = (error: unknown): void => void this.#hear(error)
    this.redis.on('error', note)
    if (isCluster(this.redis)) this.redis.on('node error', note)
    this.redis.on('connect', () => {
      this.#peer = peerOf(this.redis) ?? this.#peer
    })
    this.redis.on('end', () => {
      this.#changes.fire()
      this.#comeBack()
    })
    this.redis.on('ready', () => {
      this.#changes.fire()
      const isFirst = !this.#wasReady
      this.#wasReady = true
      this.#ends = 0
      if (isFirst) this.#watchLife()
      else for (const listener of this.#readyListeners) listener()
    })
  }

  /** ioredis's word for the state: `ready` when commands can be sent. */
  get status(): string {
    return this.redis.status
  }

  /** The last problem, null if a command has been answered since. */
  get problem(): ConnectionProblem | null {
    return this.#lastError === null
      ? null
      : { message: this.#explain(this.#lastError), atMs: this.#lastErrorAtMs }
  }

  /** Calls `listener` every time the connection is ready again after it was lost. */
  onReconnect(listener: () => void): void {
    this.#readyListeners.push(listener)
  }

  /**
   * Connects. Resolves when commands can be sent; rejects with REDIS_ERROR when the server refuses
   * (password, permissions), when `timeoutMs` have passed and no try to connect is under way, or when the signal aborts.
   */
  async open(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const untilMs = performance.now() + timeoutMs
    this.redis.connect().catch((error: unknown) => {
      if (this.#lastError === null) this.#note(error)
    })
    while (this.redis.status !== 'ready') {
      const isRefused = isReply(this.#lastError) && !isTransient(this.#lastError)
      const isOver = this.redis.status === 'end' && !this.#reconnects
      // A try that the application allows to take longer is not given up halfway.
      const graceMs = this.redis.status === 'connecting' ? this.#connectTimeoutMs : 0
      if (isRefused || isOver || signal.aborted || performance.now() >= untilMs + graceMs) {
        throw this.#unreachable(timeoutMs)
      }
      await this.#changes.wait(OPEN_POLL_MS, signal)
    }
  }

  /**
   * Runs commands with a deadline, this connection's unless another is given. Except on a Cluster it begins anew as long as
   * something is received: answers come in order, so a large one that is on its way over a slow link arrives in the end.
   * There it is later, too, by the time that a slow link needs for what was sent and has not arrived yet.
   * Rejects with what ioredis rejects with, or a DeadlineError; after that the commands may still be executed.
   */
  async run<T>(
    command: (redis: RedisLike) => Promise<T>,
    { timeoutMs, timeoutOrigin }: CommandDeadline = this.#deadline,
  ): Promise<T> {
    if (AWAY.has(this.redis.status)) throw new Error(NO_REASON)
    let timer: NodeJS.Timeout | undefined
    let received = bytesReceived(this.redis)
    let expire!: () => void
    const deadline = new Promise<never>((_, reject) => {
      expire = () => {
        const before = received
        received = bytesReceived(this.redis)
        if (received > before) {
          timer = startTimer(timeoutMs, expire)
          return
        }
        const error = new DeadlineError(timeoutMs, timeoutOrigin)
        this.#note(error)
        this.replace()
        reject(error)
      }
    })
    timer = startTimer(timeoutMs, expire) // before ioredis begins to count, so that the error is ours
    this.#underWay++
    try {
      const answering = command(this.redis)
      const sent = this.#sent.mark()
      const extraMs = this.#sent.extraMs(sent)
      if (extraMs > 0) {
        clearTimeout(timer)
        timer = startTimer(timeoutMs + extraMs, expire)
      }
      const answer = await Promise.race([answering, deadline])
      this.#sent.answered(sent)
      this.#lastError = null
      return answer
    } catch (error) {
      if (isReply(error)) {
        // A server that says "not now" to everything counts as a problem. Any other answer shows that the connection works.
        if (isTransient(error)) this.#note(error)
        else this.#lastError = null
      }
      throw error
    } finally {
      clearTimeout(timer)
      this.#underWay--
      this.#wasUsed = true
    }
  }

  /** Drops the connection at once; nothing is sent or received any more. Safe twice. */
  close(): void {
    this.#closed = true
    this.#keeper?.stop()
    clearTimeout(this.#lifeTimer)
    this.redis.disconnect()
  }

  /** Replaces a connection that does not answer by a new one. */
  replace(): void {
    if (!this.#closed && this.redis.status === 'ready') this.redis.disconnect(true)
  }

  /** Sends a PING whenever nothing else was sent for `commandTimeoutMs`. Any answer is one, a refusal as well. */
  #watchLife(): void {
    if (this.#closed) return
    this.#lifeTimer = startTimer(this.#deadline.timeoutMs, () => {
      const isQuiet = !this.#wasUsed && this.#underWay === 0
      this.#wasUsed = false
      if (isQuiet && this.redis.status === 'ready') this.run((redis) => redis.ping()).catch(ignore)
      this.#watchLife()
    }).unref()
  }

  /** ioredis ends a connection for good where it cannot even begin to connect, for example with an unusable certificate. */
  #comeBack(): void {
    if (this.#closed || !this.#reconnects) return
    setTimeout(
      () => {
        if (!this.#closed && this.redis.status === 'end') this.redis.connect().catch(ignore)
      },
      reconnectDelayMs(++this.#ends),
    )
  }

  async #hear(error: unknown): Promise<void> {
    const isHungUp = error instanceof Error && HUNG_UP.test(error.message) && this.redis.status !== 'ready'
    if (isHungUp && !this.#isHearing) {
      this.#isHearing = true
      const greeting = await hearGreeting(this.redis, this.#peer)
      this.#isHearing = false
      this.#note(greeting === null ? error : new Error(greeting, { cause: error }))
    } else if (!this.#isHearing) {
      this.#note(error)
    }
  }

  #note(error: unknown): void {
    // A Cluster says only that it has failed to look up the slots; what the last node has said lies inside.
    const { lastNodeError } = error as { lastNodeError?: unknown }
    const reason = lastNodeError ?? error
    if (this.#lastError !== null && messageOf(reason) === NO_REASON) return
    this.#lastError = scrub(reason)
    this.#lastErrorAtMs = Date.now()
    this.#changes.fire()
  }

  #unreachable(timeoutMs: number): StreamClientError {
    const cause = this.#lastError ?? new DeadlineError(timeoutMs)
    const problem = this.#explain(cause)
    return redisError('connect', new Error(`Redis cannot be reached: ${problem}`, { cause }))
  }

  /** Names the option behind a time that was too short. Where a name has several addresses, Node has only a code. */
  #explain(cause: unknown): string {
    const message = messageOf(cause) || String((cause as { code?: unknown }).code)
    const { timeoutMs, timeoutOrigin } = this.#deadline
    if (message === TIMED_OUT) return messageOf(new DeadlineError(timeoutMs, timeoutOrigin))
    if (!message.includes('ETIMEDOUT')) return message.replace(NEXT_TRY, '')
    return `${message} (the connectTimeout of the ioredis client is ${this.#connectTimeoutMs} ms)`
  }
}

function ignore(): void {
  // what is wrong comes as an event, or stays as the connection's problem
}
