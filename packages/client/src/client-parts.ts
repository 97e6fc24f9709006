/** Builds what lives as long as the client, from the bottom to the top. */
import type { NotificationBroker } from '@redis-stream-client/notifs'
import { DeadConsumers } from './agents/dead-consumers.js'
import { FleetView } from './agents/fleet-view.js'
import { Hints } from './agents/hints.js'
import { Housekeeping } from './agents/housekeeping.js'
import { ReadingPace } from './agents/reading-pace.js'
import type { RebalanceEvent } from './agents/rebalancer.js'
import { UnreadWatch } from './agents/unread-watch.js'
import { Trigger } from './async/trigger.js'
import { type Clock, systemClock } from './decisions/clock.js'
import type { FailoverMessage } from './decisions/failover-message.js'
import type { MemberFacts } from './decisions/member-facts.js'
import type { SafeLogger } from './logger.js'
import type { SafeRecorder } from './metrics.js'
import type { ResolvedOptions } from './options.js'
import { type DeadLetter, DeadLetters } from './ownership/dead-letters.js'
import { Deliveries } from './ownership/deliveries.js'
import { Ownership } from './ownership/ownership.js'
import { Refusals } from './ownership/refusals.js'
import { Connection } from './redis/connection.js'
import { databaseOf, type RedisLike } from './redis/duplicate.js'
import { Lbs, type LbsReading } from './redis/lbs.js'
import { LbsFeed } from './redis/lbs-feed.js'
import { LockRecords } from './redis/lock-records.js'
import { messageOf } from './redis/redis-errors.js'
import { ServiceScripts, SILENT_MS } from './redis/service-scripts.js'
import type { ServiceKeys } from './service-keys.js'
import { Retries } from './session/retries.js'
import { SessionSource } from './session/session-source.js'

/** BLOCK of the reads: short enough that a half-open connection is noticed soon. */
const LEAST_BLOCK_MS = 1000
const LEAST_COMMAND_TIMEOUT_MS = 250
const SILENT_TTLS = 10

export interface ClientContext {
  readonly redis: RedisLike
  readonly keys: ServiceKeys
  readonly options: ResolvedOptions
  readonly broker: NotificationBroker
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  readonly onDeadLetter: (letter: DeadLetter) => void
  readonly onReaderExhausted: (error: Error) => void
  readonly onRebalance: (event: RebalanceEvent) => void
  readonly onHeartbeatExpired: () => void
  readonly onFailoverMessage: (message: FailoverMessage) => void
}

export interface ClientParts {
  readonly clock: Clock
  readonly commands: Connection
  readonly heartbeats: Connection
  readonly scripts: ServiceScripts
  readonly lbs: Lbs
  readonly feed: LbsFeed
  readonly records: LockRecords
  readonly retries: Retries
  readonly deliveries: Deliveries
  readonly ownership: Ownership
  /** What the others need to know of this client. */
  readonly facts: () => MemberFacts
  readonly view: FleetView
  readonly pace: ReadingPace
  readonly deadLetters: DeadLetters
  readonly refusals: Refusals
  /** Fired when an answer may have been lost. */
  readonly reconciliation: Trigger
  readonly sessions: SessionSource
  readonly deadConsumers: DeadConsumers
  readonly housekeeping: Housekeeping
  readonly unreadWatch: UnreadWatch
  readonly hints: Hints
}

export function clientParts(context: ClientContext): ClientParts {
  const { broker, keys, logger, onDeadLetter, options, recorder } = context
  const clock = systemClock
  const { commands, heartbeats, replicas } = connectionsOf(context)
  const silentMs = Math.max(SILENT_MS, SILENT_TTLS * options.heartbeatTtlMs)
  const scripts = new ServiceScripts(commands, keys, { ...options, silentMs, replicas })
  const lbs = new Lbs(commands, keys, { ...options, onIntegerAsText: warnOfIntegers(logger) })
  const feed = new LbsFeed({
    template: commands.redis, // not the application's: that one may have been sent to another database since
    connectionName: connectionName(context, 'reader'),
    keys,
    blockMs: Math.max(options.heartbeatTtlMs, LEAST_BLOCK_MS),
  })
  const records = new LockRecords(commands, keys)
  const retries = new Retries(lbs, logger)
  const below = { ...options, clock, recorder, logger, keys, scripts, lbs, records, retries }

  const heartbeatKey = keys.heartbeat(options.clientId)
  const sessions = new SessionSource({ ...below, heartbeatKey, connection: heartbeats })
  const deliveries = new Deliveries(broker, clock, recorder)
  const ownership = new Ownership({ ...below, broker })
  ownership.isDraining = options.weight === 0
  const deadLetters = new DeadLetters({ ...below, onDeadLetter })
  const reconciliation = new Trigger()
  const deadConsumers = new DeadConsumers(below)
  const view = new FleetView(clock)
  const hints: Hints = new Hints({
    ...below,
    redis: commands.redis,
    connectionName: connectionName(context, 'hints'),
    commandTimeoutMs: commandTimeoutMs(options),
    db: databaseOf(context.redis),
    onExpired: () => {
      recorder.expiryEvent({ source: 'keyspace' })
      context.onHeartbeatExpired()
    },
    onMessage: (message) => {
      if (message.type === 'waiting') {
        recorder.expiryEvent({ source: 'failover' })
      }
      context.onFailoverMessage(message)
    },
    onReconnect: () => void hints.refresh(),
  })
  commands.onReconnect(() => reconciliation.fire())
  return {
    clock,
    commands,
    heartbeats,
    scripts,
    lbs,
    feed,
    records,
    retries,
    deliveries,
    ownership,
    facts: () => ({ ...options, weight: ownership.isDraining ? 0 : options.weight }),
    view,
    pace: new ReadingPace({ ...options, clock, ownership, view }),
    deadLetters,
    refusals: new Refusals(clock),
    reconciliation,
    sessions,
    deadConsumers,
    housekeeping: new Housekeeping({ ...below, connection: commands, deadConsumers }),
    unreadWatch: new UnreadWatch({ ...below, deliveries, ownership }),
    hints,
  }
}

/** As CLIENT LIST shows it. */
function connectionName({ keys, options }: Pick<ClientContext, 'keys' | 'options'>, role: string): string {
  return `${keys.service}:${options.clientId}:${role}`
}

function commandTimeoutMs({ heartbeatTtlMs }: ResolvedOptions): number {
  return Math.max(heartbeatTtlMs / 2, LEAST_COMMAND_TIMEOUT_MS)
}

function connectionsOf(context: ClientContext) {
  const { logger, options, redis } = context
  const timeoutMs = commandTimeoutMs(options)
  const timeoutOrigin = `set by heartbeatTtlMs, which is ${options.heartbeatTtlMs}`
  const replicas = options.replicas && {
    ...options.replicas,
    onAnswer: watchReplicas(options.replicas, logger),
  }
  const commands = new Connection(redis, {
    name: connectionName(context, 'commands'),
    commandTimeoutMs: timeoutMs + (replicas?.timeoutMs ?? 0),
    timeoutOrigin:
      timeoutOrigin + (replicas === null ? '' : `, and replicas.timeoutMs, ${replicas.timeoutMs}`),
  })
  const heartbeats = new Connection(redis, {
    name: connectionName(context, 'heartbeat'),
    commandTimeoutMs: timeoutMs,
    timeoutOrigin,
  })
  return { commands, heartbeats, replicas }
}

/** Warns once of integers in Info that are handed over as text. */
function warnOfIntegers(logger: SafeLogger): LbsReading['onIntegerAsText'] {
  let hasWarned = false
  return ({ id, message: { dataStreamName } }, integer) => {
    if (hasWarned) return
    hasWarned = true
    const facts = { idInLbs: id, dataStreamName, integer }
    logger.warn(
      facts,
      'Info has integers too large for JavaScript: they are handed over as text (infoNumbers)',
    )
  }
}

/** Warns once when replicas fall behind, and says when they are back. */
function watchReplicas(
  { count }: { readonly count: number },
  logger: SafeLogger,
): (operation: string, acknowledged: number, waitError: Error | null) => void {
  let isBehind = false
  return (operation, acknowledged, waitError) => {
    const wasBehind = isBehind
    isBehind = acknowledged < count
    const facts = {
      operation,
      acknowledged,
      count,
      ...(waitError === null ? {} : { error: messageOf(waitError) }),
    }
    if (isBehind && !wasBehind) {
      logger.warn(facts, 'too few replicas have what was written: it is lost if the master fails now')
    } else if (wasBehind && !isBehind) {
      logger.info(facts, 'the replicas have caught up')
    }
  }
}
