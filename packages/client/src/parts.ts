/** Builds the parts of a client, from the bottom to the top, and connects them. */
import type { NotificationBroker } from '@redis-stream-client/notifs'
import { DeadConsumers } from './agents/dead-consumers.js'
import { Dealer } from './agents/dealer.js'
import { Failover } from './agents/failover.js'
import { FleetView } from './agents/fleet-view.js'
import { Hints } from './agents/hints.js'
import { Housekeeping } from './agents/housekeeping.js'
import { LbsReader } from './agents/lbs-reader.js'
import { Probe } from './agents/probe.js'
import { ProgressWatch } from './agents/progress-watch.js'
import { type RebalanceEvent, Rebalancer } from './agents/rebalancer.js'
import { Reconciler } from './agents/reconciler.js'
import { Recovery } from './agents/recovery.js'
import { UnreadWatch } from './agents/unread-watch.js'
import { systemClock } from './decisions/clock.js'
import type { MemberFacts } from './decisions/member-facts.js'
import type { SafeLogger } from './logger.js'
import type { SafeRecorder } from './metrics.js'
import type { ResolvedOptions } from './options.js'
import { ClaimRequests } from './ownership/claim-requests.js'
import { type DeadLetter, DeadLetters } from './ownership/dead-letters.js'
import { Deliveries } from './ownership/deliveries.js'
import { Ownership } from './ownership/ownership.js'
import { StreamChanges } from './ownership/stream-changes.js'
import { StreamTaker } from './ownership/stream-taker.js'
import { ToldEntries } from './ownership/told-entries.js'
import { Withdrawals } from './ownership/withdrawals.js'
import { Connection } from './redis/connection.js'
import { databaseOf, type RedisLike } from './redis/duplicate.js'
import { Lbs, type LbsReading } from './redis/lbs.js'
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

export interface PartsContext {
  readonly redis: RedisLike
  readonly keys: ServiceKeys
  readonly options: ResolvedOptions
  readonly broker: NotificationBroker
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  readonly onDeadLetter: (letter: DeadLetter) => void
  readonly onReaderExhausted: (error: Error) => void
  readonly onRebalance: (event: RebalanceEvent) => void
}

export interface Parts {
  readonly commands: Connection
  readonly heartbeats: Connection
  readonly scripts: ServiceScripts
  readonly lbs: Lbs
  readonly ownership: Ownership
  readonly deliveries: Deliveries
  readonly taker: StreamTaker
  readonly claimRequests: ClaimRequests
  readonly streamChanges: StreamChanges
  readonly told: ToldEntries
  /** What the others need to know of this client. */
  readonly facts: () => MemberFacts
  readonly view: FleetView
  readonly rebalancer: Rebalancer
  readonly sessions: SessionSource
  readonly retries: Retries
  readonly deadConsumers: DeadConsumers
  readonly hints: Hints
  readonly reader: LbsReader
  readonly reconciler: Reconciler
  readonly recovery: Recovery
  readonly failover: Failover
  readonly probe: Probe
  readonly progressWatch: ProgressWatch
}

export function assemble(context: PartsContext): Parts {
  const { broker, keys, logger, options, recorder, redis } = context
  const clock = systemClock
  const commandTimeoutMs = Math.max(options.heartbeatTtlMs / 2, LEAST_COMMAND_TIMEOUT_MS)
  const timeoutOrigin = `set by heartbeatTtlMs, which is ${options.heartbeatTtlMs}`
  const name = (role: string): string => `${keys.service}:${options.clientId}:${role}`
  const replicas = options.replicas && {
    ...options.replicas,
    onAnswer: watchReplicas(options.replicas, logger),
  }
  const commands = new Connection(redis, {
    name: name('commands'),
    commandTimeoutMs: commandTimeoutMs + (replicas?.timeoutMs ?? 0),
    timeoutOrigin:
      timeoutOrigin + (replicas === null ? '' : `, and replicas.timeoutMs, ${replicas.timeoutMs}`),
  })
  const heartbeats = new Connection(redis, { name: name('heartbeat'), commandTimeoutMs, timeoutOrigin })

  const silentMs = Math.max(SILENT_MS, SILENT_TTLS * options.heartbeatTtlMs)
  const scripts = new ServiceScripts(commands, keys, { ...options, silentMs, replicas })
  const lbs = new Lbs(commands, keys, { ...options, onIntegerAsText: warnOfIntegers(logger) })
  const records = new LockRecords(commands, keys)
  const retries = new Retries(lbs, logger)
  const deliveries = new Deliveries(broker, clock, recorder)
  const ownership = new Ownership({ ...options, broker, clock, recorder, logger })
  const told = new ToldEntries({ ...options, broker, clock })
  const facts = (): MemberFacts => ({ ...options, weight: ownership.isDraining ? 0 : options.weight })
  ownership.isDraining = options.weight === 0
  const view = new FleetView()
  const streamChanges = new StreamChanges({ ...options, scripts, retries, ownership, recorder })
  const { onDeadLetter } = context
  const deadLetters = new DeadLetters({
    ...options,
    lbs,
    scripts,
    retries,
    recorder,
    logger,
    onDeadLetter,
  })
  const taker = new StreamTaker({
    ...options,
    scripts,
    retries,
    ownership,
    operations: streamChanges,
    deadLetters,
    clock,
    recorder,
    logger,
    onRefused: () => reconciler.requestLater(),
  })
  const claimRequests = new ClaimRequests({
    lbs,
    retries,
    taker,
    deadLetters,
    ownership,
    clock,
    recorder,
  })
  const sessions = new SessionSource({
    ...options,
    heartbeatKey: keys.heartbeat(options.clientId),
    connection: heartbeats,
    clock,
    recorder,
    logger,
  })

  const deadConsumers = new DeadConsumers({ ...options, lbs, scripts, logger })
  const housekeeping = new Housekeeping({
    ...options,
    scripts,
    records,
    connection: commands,
    keys,
    deadConsumers,
  })
  const dealer = new Dealer({
    ...options,
    scripts,
    lbs,
    retries,
    ownership,
    taker,
    deadLetters,
    deliveries,
    clock,
    recorder,
    onGone: () => housekeeping.requestSweep(),
    onNotTaken: () => reconciler.request(),
    onMoved: (moves) =>
      context.onRebalance({ role: 'received', moves, level: view.facts?.level ?? Number.NaN }),
  })
  const reconciler = new Reconciler({
    ...options,
    scripts,
    lbs,
    records,
    retries,
    taker,
    ownership,
    dealer,
    deliveries,
    logger,
    onRound: () => void hints.refresh(),
  })
  const recovery = new Recovery({ ...options, dealer, clock, recorder, logger })
  const failover = new Failover({
    ...options,
    dealer,
    told,
    records,
    ownership,
    taker,
    deliveries,
    clock,
    recorder,
    logger,
  })
  const unreadWatch = new UnreadWatch({ ...options, deliveries, ownership, logger })
  const withdrawals = (): Withdrawals => new Withdrawals({ ownership, operations: streamChanges, logger })
  const progressWatch = new ProgressWatch({
    ...options,
    ownership,
    withdrawals: withdrawals(),
    clock,
    logger,
  })
  const rebalancer = new Rebalancer({
    ...options,
    scripts,
    ownership,
    deliveries,
    streamChanges,
    withdrawals: withdrawals(),
    clock,
    recorder,
    logger,
    onEvent: context.onRebalance,
  })
  const probe = new Probe({
    ...options,
    scripts,
    connection: commands,
    keys,
    view,
    clock,
    recorder,
    logger,
    onWaiting: (message) => {
      recorder.expiryEvent({ source: 'probe' })
      failover.hearWaiting(message)
    },
    onRound: async (signal) => {
      unreadWatch.check()
      failover.resume()
      await housekeeping.sweepIfWanted(signal)
    },
    onRoster: (lines) => rebalancer.plan(lines),
    onWon: (lines) => housekeeping.tidy(lines),
  })
  const reader = new LbsReader({
    ...options,
    template: commands.redis, // not the application's: that one may have been sent to another database since
    connectionName: name('reader'),
    keys,
    taker,
    deadLetters,
    lbs,
    ownership,
    broker,
    deliveries,
    blockMs: Math.max(options.heartbeatTtlMs, LEAST_BLOCK_MS),
    isAlone: () => probe.isAlone,
    logger,
    onAbandonedRead: () => reconciler.request(),
    onExhausted: context.onReaderExhausted,
  })
  const hints = new Hints({
    ...options,
    redis: commands.redis,
    connectionName: name('hints'),
    commandTimeoutMs,
    keys,
    db: databaseOf(redis),
    logger,
    onExpired: () => {
      recorder.expiryEvent({ source: 'keyspace' })
      probe.hearExpired()
    },
    onMessage: (message) => {
      if (message.type === 'plan') return rebalancer.hearPlan()
      recorder.expiryEvent({ source: 'failover' })
      view.hear(message.level, message.living)
      failover.hearWaiting(message)
    },
    onReconnect: () => void hints.refresh(),
  })
  commands.onReconnect(() => reconciler.request())
  return {
    commands,
    heartbeats,
    scripts,
    lbs,
    ownership,
    deliveries,
    taker,
    claimRequests,
    streamChanges,
    told,
    facts,
    view,
    rebalancer,
    sessions,
    retries,
    deadConsumers,
    hints,
    reader,
    reconciler,
    recovery,
    failover,
    probe,
    progressWatch,
  }
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
