/**
 * Hints that a client is gone: the `expired` events of heartbeat keys and the messages on `<service>-failover`.
 * They make failover fast and nothing depends on them. Where there are many clients only some listen to the events:
 * if all of N clients lose their sessions at once, each key that ends would be told to N clients. On Cluster every master has a subscriber of its own,
 * because an event is published only by the node that holds the key.
 */
import type { Redis } from 'ioredis'
import { sleep } from '../async/sleep.js'
import { decodeFailoverMessage, type FailoverMessage } from '../decisions/failover-message.js'
import type { SafeLogger } from '../logger.js'
import { Connection, type ConnectionProblem } from '../redis/connection.js'
import { isCluster, type RedisLike } from '../redis/duplicate.js'
import { addKeyspaceFlags, FLAGS } from '../redis/keyspace-flags.js'
import { isRefusal, isTransient, messageOf } from '../redis/redis-errors.js'
import type { ServiceKeys } from '../service-keys.js'

/** A client that begins beside more than so many does not listen to keyspace events. */
const LISTENING_CLIENTS = 50

export interface HintsContext {
  readonly redis: RedisLike
  readonly connectionName: string
  readonly commandTimeoutMs: number
  readonly keys: ServiceKeys
  readonly db: number
  readonly keyspaceEvents: 'auto' | 'off'
  readonly logger: SafeLogger
  readonly onExpired: () => void
  readonly onMessage: (message: FailoverMessage) => void
  /** A subscriber was away: hints have been missed. */
  readonly onReconnect: () => void
}

export class Hints {
  readonly #context: HintsContext
  readonly #subscribers = new Map<string, Connection>()
  /** Those that listen to keyspace events too. */
  readonly #listening = new WeakSet<Connection>()
  #clients = 0
  readonly #stopped = new AbortController()
  #wasRefused = false
  #isMissing = false
  #isWanted = false
  #isTryingAgain = false
  /** What was wrong with the last subscriber that was thrown away. */
  #problem: ConnectionProblem | null = null

  constructor(context: HintsContext) {
    this.#context = context
    // ioredis has asked for the nodes anew: after a failover, a resharding, a node that came or went.
    if (isCluster(context.redis)) context.redis.on('refresh', () => this.#followNodes())
  }

  /** States of the subscribers' connections, in ioredis's words. */
  get statuses(): string[] {
    return [...this.#subscribers.values()].map((each) => each.status)
  }

  /** What keeps subscribers away. */
  get problems(): ConnectionProblem[] {
    if (this.#subscribers.size === 0) return this.#problem === null ? [] : [this.#problem]
    return [...this.#subscribers.values()].flatMap(({ problem }) => problem ?? [])
  }

  /** How many clients the service has: read at the beginning of each session. */
  set clients(count: number) {
    this.#clients = count
  }

  /** Subscribes and sets the flags, on nodes that are new as well. A failure is logged: the probe goes on without. */
  async refresh(): Promise<void> {
    this.#isWanted = true
    const nodes = mastersOf(this.#context.redis)
    for (const [address, connection] of this.#subscribers) {
      if (nodes.has(address)) continue
      connection.close()
      this.#subscribers.delete(address)
    }
    await Promise.all([...nodes].map(([address, node]) => this.#refreshNode(address, node)))
  }

  stop(): void {
    this.#stopped.abort()
    for (const connection of this.#subscribers.values()) connection.close()
  }

  #followNodes(): void {
    if (!this.#isWanted || this.#stopped.signal.aborted) return
    const nodes = mastersOf(this.#context.redis)
    const isSame = nodes.size === this.#subscribers.size
    if (!isSame || [...nodes.keys()].some((address) => !this.#subscribers.has(address))) void this.refresh()
  }

  async #refreshNode(address: string, node: RedisLike): Promise<void> {
    const known = this.#subscribers.get(address)
    if (known === undefined) await this.#subscribe(address, node)
    else if (known.status === 'ready') {
      await this.#listenToEvents(known).catch((error: unknown) => this.#giveUp(address, known, error))
    }
    if (this.#listensToEvents && !this.#stopped.signal.aborted) await this.#addFlags(node)
  }

  get #listensToEvents(): boolean {
    return this.#context.keyspaceEvents === 'auto' && this.#clients <= LISTENING_CLIENTS
  }

  async #subscribe(address: string, node: RedisLike): Promise<void> {
    const { commandTimeoutMs, connectionName, onReconnect } = this.#context
    const connection = new Connection(node, { name: connectionName, commandTimeoutMs })
    this.#subscribers.set(address, connection)
    connection.onReconnect(() => {
      this.#listen(connection).catch((error: unknown) => this.#giveUp(address, connection, error))
      onReconnect()
    })
    connection.redis.on('message', (_channel: string, text: string) => this.#hearMessage(text))
    connection.redis.on('pmessage', (_pattern: string, _channel: string, event: string) =>
      this.#hearEvent(event),
    )
    try {
      await connection.open(commandTimeoutMs, this.#stopped.signal)
      await this.#listen(connection)
    } catch (error) {
      this.#giveUp(address, connection, error)
    }
  }

  async #listen(connection: Connection): Promise<void> {
    this.#listening.delete(connection)
    await connection.run((redis) => redis.subscribe(this.#context.keys.failoverChannel))
    await this.#listenToEvents(connection)
  }

  async #listenToEvents(connection: Connection): Promise<void> {
    if (!this.#listensToEvents || this.#listening.has(connection)) return
    const { db, keys } = this.#context
    try {
      await connection.run((redis) => redis.psubscribe(keys.keyspacePattern(db)))
      this.#listening.add(connection)
    } catch (error) {
      if (!isRefusal(error)) throw error
      this.#reportMissing(error) // an ACL may allow one channel and not the other
    }
  }

  /** A subscriber that hears nothing is thrown away. Soon there is another, unless the server refuses. */
  #giveUp(address: string, connection: Connection, error: unknown): void {
    this.#reportMissing(error)
    this.#problem = connection.problem ?? { message: messageOf(error), atMs: Date.now() }
    connection.close()
    if (this.#subscribers.get(address) === connection) this.#subscribers.delete(address)
    if (isTransient(error)) void this.#tryAgain()
  }

  async #tryAgain(): Promise<void> {
    if (this.#isTryingAgain) return
    this.#isTryingAgain = true
    await sleep(this.#context.commandTimeoutMs, this.#stopped.signal)
    this.#isTryingAgain = false
    if (!this.#stopped.signal.aborted) await this.refresh()
  }

  #reportMissing(error: unknown): void {
    if (this.#stopped.signal.aborted) return
    const facts = { error: messageOf(error) }
    const isNew = isRefusal(error) && !this.#isMissing
    this.#isMissing ||= isNew
    this.#context.logger[isNew ? 'warn' : 'debug'](
      facts,
      'no hints from this node, the probe goes on without',
    )
  }

  #hearMessage(text: string): void {
    const message = decodeFailoverMessage(text)
    if (message !== null) this.#context.onMessage(message)
  }

  #hearEvent(event: string): void {
    if (event !== 'expired') return
    this.#context.onExpired()
  }

  async #addFlags(node: RedisLike): Promise<void> {
    const { logger } = this.#context
    try {
      await addKeyspaceFlags(node)
    } catch (error) {
      if (isTransient(error)) {
        logger.debug({ error: messageOf(error) }, 'keyspace events could not be switched on for now')
      } else if (!this.#wasRefused) {
        this.#wasRefused = true
        logger.warn(
          { error: messageOf(error) },
          `keyspace events are off and may not be switched on: dead clients are found by the probe alone. ` +
            `Set ${FLAGS} to Kx on the server, allow CONFIG, or set the option keyspaceEvents to 'off'`,
        )
      }
    }
  }
}

/** The nodes that publish events of their own. */
function mastersOf(redis: RedisLike): Map<string, RedisLike> {
  if (!isCluster(redis)) return new Map([['', redis]])
  return new Map(
    redis.nodes('master').map((node: Redis) => [`${node.options.host}:${node.options.port}`, node]),
  )
}
