/** Builds what works for a session. The agents do not know each other: what connects them is here. */
import { Dealer } from './agents/dealer.js'
import { Failover } from './agents/failover.js'
import { LbsReader } from './agents/lbs-reader.js'
import { Probe } from './agents/probe.js'
import { ProgressWatch } from './agents/progress-watch.js'
import { Rebalancer } from './agents/rebalancer.js'
import { Reconciler } from './agents/reconciler.js'
import { Recovery } from './agents/recovery.js'
import type { ClientContext, ClientParts } from './client-parts.js'
import { Withdrawals } from './ownership/withdrawals.js'

export interface SessionAgents {
  readonly failover: Failover
  readonly probe: Probe
  readonly progressWatch: ProgressWatch
  readonly reader: LbsReader
  readonly rebalancer: Rebalancer
  readonly reconciler: Reconciler
  readonly recovery: Recovery
}

export function sessionAgents(context: ClientContext, parts: ClientParts): SessionAgents {
  const { keys, logger, onRebalance, options, recorder } = context
  const { commands, hints, housekeeping, ownership, reconciliation, streamChanges, unreadWatch, view } = parts
  const below = { ...options, ...parts, keys, logger, recorder }
  const withdrawals = (): Withdrawals => new Withdrawals({ ownership, operations: streamChanges, logger })

  const dealer = new Dealer({
    ...below,
    onGone: () => housekeeping.requestSweep(),
    onNotTaken: () => reconciliation.fire(),
    onMoved: (moves) => onRebalance({ role: 'received', moves, level: view.facts?.level ?? Number.NaN }),
  })
  const failover = new Failover({ ...below, dealer })
  const rebalancer = new Rebalancer({ ...below, withdrawals: withdrawals(), onEvent: onRebalance })
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
    onRoster: (lines) => rebalancer.plan(lines),
    onWon: (lines) => housekeeping.tidy(lines),
  })
  return {
    failover,
    probe,
    progressWatch: new ProgressWatch({ ...below, withdrawals: withdrawals() }),
    reader: new LbsReader({
      ...below,
      broker: context.broker,
      isAlone: () => probe.isAlone,
      onAbandonedRead: () => reconciliation.fire(),
      onExhausted: context.onReaderExhausted,
    }),
    rebalancer,
    reconciler: new Reconciler({
      ...below,
      dealer,
      trigger: reconciliation,
      onRound: () => void hints.refresh(),
    }),
    recovery: new Recovery({ ...below, dealer }),
  }
}
