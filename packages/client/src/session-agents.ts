/** Builds what works for a session. The agents do not know each other: what connects them is here. */
import type { AgentContext } from './agents/agent.js'
import { Failover } from './agents/failover.js'
import { LbsReader } from './agents/lbs-reader.js'
import { Probe } from './agents/probe.js'
import { ProgressWatch } from './agents/progress-watch.js'
import { Rebalancer } from './agents/rebalancer.js'
import { Reconciler } from './agents/reconciler.js'
import { Recovery } from './agents/recovery.js'
import type { ClientContext, ClientParts } from './client-parts.js'
import { StreamOffers } from './ownership/stream-offers.js'
import { Withdrawals } from './ownership/withdrawals.js'
import type { SessionStreams } from './session-streams.js'

export interface SessionAgents {
  readonly failover: Failover
  readonly probe: Probe
  readonly progressWatch: ProgressWatch
  readonly reader: LbsReader
  readonly rebalancer: Rebalancer
  readonly reconciler: Reconciler
  readonly recovery: Recovery
}

/** What agents are told of the beginning of their session. */
export interface AgentsStart extends AgentContext {
  readonly dampedMs: number
  readonly former: readonly string[]
}

export function sessionAgents(
  { broker, keys, logger, onReaderExhausted, onRebalance, options, recorder }: ClientContext,
  parts: ClientParts,
  streams: SessionStreams,
  start: AgentsStart,
): SessionAgents {
  const { commands, hints, housekeeping, ownership, reconciliation, unreadWatch } = parts
  const below = { ...options, ...parts, ...streams, ...start, broker, keys, logger, recorder }
  const [forNoProgress, forRebalancing] = [0, 1].map(
    () => new Withdrawals({ ownership, operations: streams.streamChanges, logger }),
  ) as [Withdrawals, Withdrawals]

  const recovery = new Recovery(below)
  const offers = new StreamOffers(below)
  const failover = new Failover({ ...below, offers, whenRecovered: () => recovery.run() })
  const rebalancer = new Rebalancer({ ...below, withdrawals: forRebalancing, onEvent: onRebalance })
  const probe = new Probe({
    ...below,
    connection: commands,
    onWaiting: (message) => {
      recorder.expiryEvent({ source: 'probe' })
      failover.hearWaiting(message)
    },
    onRound: async (signal) => {
      unreadWatch.check()
      failover.resume()
      await housekeeping.sweepIfWanted(signal)
    },
    onRoster: (lines, undelivered) => rebalancer.plan(lines, { undelivered }),
    onWon: (lines) => housekeeping.tidy(lines),
  })
  return {
    failover,
    probe,
    progressWatch: new ProgressWatch({ ...below, withdrawals: forNoProgress }),
    reader: new LbsReader({
      ...below,
      isAlone: () => probe.isAlone,
      onAbandonedRead: () => reconciliation.fire(),
      onExhausted: onReaderExhausted,
    }),
    rebalancer,
    reconciler: new Reconciler({
      ...below,
      trigger: reconciliation,
      isGivingBack: (id) => forNoProgress.has(id) || forRebalancing.has(id),
      onRound: () => void hints.refresh(),
    }),
    recovery,
  }
}
