/**
 * Moves streams to clients that have too few. Owners are asked and give streams back; none is taken from an owner that
 * works on it.
 *
 *   planner (winner of a round): clients have been the same for a while, one is off its share ──> plan in Redis
 *   owner: reads the plan ── has more than it says ──> asks some streams to stop, a few at a time
 *   stream: owned as before ── its application commits, then releases or finishes it ──> pool ──> a client with too few
 *                           └─ not within the limit ──> disowned (`rebalanced`), released
 *
 * Only owners that have read the stream's `signal` are asked, because only they can stop in time. Streams whose StreamAdded
 * the application has not read move without a notification.
 */
import { createHash } from 'node:crypto'
import { StreamClientError } from '@redis-stream-client/notifs'
import { aborted, sleep } from '../async/sleep.js'
import type { Clock } from '../decisions/clock.js'
import { isPool } from '../decisions/consumer-name.js'
import { type Balance, balanceOf, planOf } from '../decisions/rebalance-plan.js'
import { type FleetLevel, isDamped } from '../decisions/water-level.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { Deliveries } from '../ownership/deliveries.js'
import type { Ownership } from '../ownership/ownership.js'
import type { StreamChanges } from '../ownership/stream-changes.js'
import type { StreamHandle } from '../ownership/stream-handle.js'
import type { Withdrawals } from '../ownership/withdrawals.js'
import { hasLeftEntries, type RosterLine, type ServiceScripts } from '../redis/service-scripts.js'
import { type Agent, type AgentContext, reportFailure } from './agent.js'
import { waitingInPool } from './fleet-view.js'

/** Pause between two slices of streams whose owner is asked: in this time other clients take one slice. */
const PAUSE_MS = 50
/** How often the plan is read again while no stream can be asked for. */
const LOOK_MS = 1000
/** A client whose heartbeat key has less than this share of its TTL left may be dead: no stream is moved to it. */
const LEAST_TTL_SHARE = 0.6
/** A stream that was moved is not moved again within this time, unless nothing else is left. */
const COOLDOWN_MS = 60_000
/** A plan is kept for at least this long, and for so many rounds. */
const LEAST_PLAN_MS = 10_000
const PLAN_ROUNDS = 10
const DRAINED_IN_FLIGHT = 64

export interface RebalanceSettings {
  readonly settleMs: number
  readonly movesInFlight: number
  readonly timeoutMs: number
}

/** What the event `rebalance` reports. */
export interface RebalanceEvent {
  /** `planned`: this client has published a plan. `giving`: its owners are asked. `received`: it was given streams. */
  readonly role: 'planned' | 'giving' | 'received'
  readonly moves: number
  readonly level: number
}

export interface RebalancerContext extends AgentContext {
  readonly scripts: ServiceScripts
  readonly ownership: Ownership
  readonly deliveries: Deliveries
  readonly streamChanges: StreamChanges
  readonly withdrawals: Withdrawals
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  /** Null: this client never plans and never gives. */
  readonly rebalance: RebalanceSettings | null
  readonly closeTimeoutMs: number
  readonly probeIntervalMs: number
  readonly onEvent: (event: RebalanceEvent) => void
}

/** A stream that was asked to stop. */
interface Asked {
  readonly sinceMs: number
}

/** How many streams to keep, and what the others are told; null: nothing is to be given any more. */
type Target = (FleetLevel & { readonly quota: number; readonly inFlight: number }) | null

export class Rebalancer implements Agent {
  readonly #context: RebalancerContext
  readonly #asked = new Map<StreamHandle, Asked>()
  #giving: Promise<void> | undefined
  #planning: Promise<void> | undefined
  #isPlanHeard = false

  constructor(context: RebalancerContext) {
    this.#context = context
  }

  /** Streams that were asked to stop and have not ended. */
  get moving(): number {
    if (this.#context.signal.aborted) return 0
    this.#forgetEnded()
    return this.#asked.size
  }

  async run(): Promise<void> {
    await aborted(this.#context.signal)
    await Promise.all([this.#giving, this.#planning])
  }

  /**
   * For the winner of a round: publishes a plan if a client is off its share. `isForced`: at once, and however small the
   * difference is. `undelivered`: entries that nobody has read; those who own least will read them.
   * Resolves with the number of streams to move; 0 if nothing was published.
   */
  async plan(
    roster: readonly RosterLine[],
    {
      isForced = false,
      undelivered = 0,
    }: { readonly isForced?: boolean; readonly undelivered?: number } = {},
  ): Promise<{ moves: number; level: number }> {
    const { logger, onEvent, probeIntervalMs, rebalance, recorder, scripts } = this.#context
    const living = roster.filter((line) => line.isAlive)
    const steady = living.filter((line) => !isDamped(line))
    const balance = balanceOfRoster(roster, steady, undelivered)
    const isDue = isForced || (balance.isNeeded && !roster.some(isDeadWithEntries))
    if (rebalance === null || balance.moves === 0 || !isDue) return { moves: 0, level: balance.level }
    const plan = planOf(balance, steady.length, rebalance.movesInFlight)
    const waitMs = await scripts.publishPlan(plan, {
      members: fingerprint(steady),
      youngestMs: Math.min(...steady.map(({ ageMs }) => ageMs)),
      settleMs: isForced ? 0 : rebalance.settleMs,
      moves: balance.moves,
      standsMs: Math.max(LEAST_PLAN_MS, PLAN_ROUNDS * probeIntervalMs, 2 * rebalance.settleMs),
      isForced,
    })
    if (waitMs > 0) {
      if (waitMs < probeIntervalMs) this.#planIn(waitMs)
      return { moves: 0, level: balance.level }
    }
    const { imbalance, level, moves } = balance
    logger.debug({ moves, level, living: steady.length, imbalance }, 'streams are to be moved')
    recorder.rebalancePlan({ moves, level, living: steady.length, imbalance })
    onEvent({ role: 'planned', moves, level })
    return { moves, level }
  }

  /** Looks again just when it is time for a plan: the next round may be almost an interval later. */
  #planIn(ms: number): void {
    const { session, signal } = this.#context
    if (this.#planning !== undefined) return
    const plan = async (): Promise<void> => {
      await sleep(ms, signal)
      if (signal.aborted || !session.isHeld()) return
      await this.plan(await this.#context.scripts.roster({ withEnds: true }))
    }
    this.#planning = plan()
      .catch((error: unknown) => {
        if (session.isHeld()) reportFailure('rebalancing', error, this.#context.logger)
      })
      .finally(() => {
        this.#planning = undefined
      })
  }

  /** A message says that there is a plan. */
  hearPlan(): void {
    this.#isPlanHeard = true
    const { rebalance, scripts, session } = this.#context
    if (rebalance === null) return
    this.#give(async () => {
      const plan = await scripts.plan()
      const quota = plan?.keep[session.consumer]
      return plan === null || quota === undefined ? null : { ...plan, quota }
    })
  }

  /** Gives everything. Resolves when nothing is left, or the session ends. */
  async drain(fleet: FleetLevel): Promise<void> {
    const { ownership, signal } = this.#context
    while (!signal.aborted) {
      if (ownership.streams.size === 0 && this.#giving === undefined) return
      this.#give(() => Promise.resolve({ ...fleet, quota: 0, inFlight: this.#settings.movesInFlight }))
      await sleep(PAUSE_MS, signal)
    }
  }

  #give(readTarget: () => Promise<Target>): void {
    const { logger, session, signal } = this.#context
    if (this.#giving !== undefined || signal.aborted) return
    this.#giving = this.#carryOut(readTarget)
      .catch((error: unknown) => {
        if (session.isHeld()) reportFailure('rebalancing', error, logger)
      })
      .finally(() => {
        this.#giving = undefined
      })
  }

  /** Asks one slice after the other, as long as this client has more than the target says. */
  async #carryOut(readTarget: () => Promise<Target>): Promise<void> {
    const { ownership, session, signal, streamChanges, withdrawals } = this.#context
    while (!signal.aborted && session.isHeld()) {
      this.#isPlanHeard = false
      const target = await readTarget()
      this.#forgetEnded()
      const slice = target === null ? [] : this.#nextSlice(target)
      if (target !== null && slice.length > 0) {
        streamChanges.levelOfPlan = target
        this.#context.onEvent({ role: 'giving', moves: slice.length, level: target.level })
        for (const stream of slice) this.#ask(stream)
      }
      this.#withdrawLate()
      await withdrawals.giveBack()
      if (slice.length > 0) await sleep(PAUSE_MS, signal)
      else if (this.#asked.size > 0 || withdrawals.size > 0) await this.#awaitChange()
      else if (!this.#isPlanHeard || target === null) return
    }
    ownership.noteChange()
  }

  /** The streams to ask for next: as many as are above the quota, and no more than may be under way. */
  #nextSlice({ inFlight, quota }: NonNullable<Target>): StreamHandle[] {
    const { clock, deliveries, ownership, session } = this.#context
    const own = [...ownership.streams.values()].filter((stream) => stream.session === session)
    const staying = own.filter((stream) => !stream.isAskedToStop && !stream.isLeaving && stream.owned)
    const excess = Math.min(staying.length - quota, inFlight - this.#asked.size)
    if (excess <= 0) return []
    const nowMs = clock.now().monotonicMs
    const isCool = (stream: StreamHandle): boolean => stream.isMoved && nowMs - stream.takenAtMs < COOLDOWN_MS
    return staying
      .filter(
        (stream) => stream.hasSignal || deliveries.isUnread(stream) || (quota === 0 && this.#isDraining),
      )
      .sort((a, b) => Number(isCool(a)) - Number(isCool(b)) || b.takenAtMs - a.takenAtMs)
      .slice(0, excess)
  }

  /** For draining, which also works where rebalancing is off. */
  get #settings(): Pick<RebalanceSettings, 'movesInFlight' | 'timeoutMs'> {
    const { closeTimeoutMs, rebalance } = this.#context
    return rebalance ?? { movesInFlight: DRAINED_IN_FLIGHT, timeoutMs: closeTimeoutMs }
  }

  get #isDraining(): boolean {
    return this.#context.ownership.isDraining
  }

  #ask(stream: StreamHandle): void {
    const { clock, deliveries, logger } = this.#context
    this.#asked.set(stream, { sinceMs: clock.now().monotonicMs })
    stream.askToStop(
      new StreamClientError(
        'REBALANCING',
        'others have fewer streams: commit, then release or finish this one',
        {
          dataStreamName: stream.dataStreamName,
          idInLbs: stream.idInLbs,
        },
      ),
    )
    // The application has not read its StreamAdded, or has not asked for the signal: the client releases it itself.
    if (!deliveries.retract(stream) && stream.hasSignal) return
    stream.release().catch((error: unknown) => {
      const { dataStreamName } = stream
      logger.debug({ dataStreamName, error: String(error) }, 'not given back, it is tried again')
    })
  }

  #withdrawLate(): void {
    const { clock, logger, withdrawals } = this.#context
    const nowMs = clock.now().monotonicMs
    const { timeoutMs } = this.#settings
    for (const [stream, { sinceMs }] of this.#asked) {
      if (nowMs - sinceMs < timeoutMs || stream.hasEnded || stream.isBusy) continue
      const { dataStreamName } = stream
      logger.warn(
        { dataStreamName, timeoutMs },
        'its owner was asked to give a stream back and has neither released nor finished it: it goes to another client',
      )
      withdrawals.disown(stream, 'rebalanced')
      this.#end(stream, sinceMs, 'timeout')
    }
  }

  #forgetEnded(): void {
    for (const [stream, { sinceMs }] of this.#asked) {
      if (!stream.hasEnded) continue
      this.#end(stream, sinceMs, stream.endedBy === 'done' ? 'finished' : 'released')
    }
  }

  #end(stream: StreamHandle, sinceMs: number, outcome: 'released' | 'finished' | 'timeout'): void {
    this.#asked.delete(stream)
    const durationMs = this.#context.clock.now().monotonicMs - sinceMs
    this.#context.recorder.rebalanceMove({ outcome, durationMs })
  }

  /** Waits until a stream has left, or the plan may have changed. */
  async #awaitChange(): Promise<void> {
    const { ownership, signal } = this.#context
    const stop = new AbortController()
    const abort = (): void => stop.abort()
    signal.addEventListener('abort', abort, { once: true })
    await Promise.race([ownership.changed(stop.signal), sleep(LOOK_MS, stop.signal)])
    signal.removeEventListener('abort', abort)
    stop.abort()
  }
}

function balanceOfRoster(
  roster: readonly RosterLine[],
  steady: readonly RosterLine[],
  undelivered: number,
): Balance {
  const sure = steady.filter(
    ({ facts, ttlMs }) => ttlMs < 0 || ttlMs >= LEAST_TTL_SHARE * facts.heartbeatTtlMs,
  )
  const members = sure.map(({ consumer, facts, pending }) => ({ consumer, facts, owned: pending }))
  return balanceOf(members, waitingInPool(roster) + undelivered)
}

function isDeadWithEntries(line: RosterLine): boolean {
  return hasLeftEntries(line) && !isPool(line.consumer)
}

/** A hash of the set of clients. */
function fingerprint(lines: readonly RosterLine[]): string {
  const names = lines.map(({ consumer }) => consumer).sort()
  return createHash('sha1').update(names.join(' ')).digest('hex')
}
