/**
 * Takes what waits for an owner: what dead clients have left and what living ones gave back.
 *
 * The message that says so names a level, from which each client knows how many more streams it is to have. It has
 * that many dealt to it, each entry to one client. What is left after that is taken a little later by a few randomly
 * chosen clients, however many streams they own; and it is announced again as long as it waits.
 * In auto mode what is dealt is taken. In manual mode the application is told (StreamExpired) and claims.
 */
import { aborted, sleep } from '../async/sleep.js'
import type { Clock } from '../decisions/clock.js'
import { isPool, POOL_OF_REBALANCED } from '../decisions/consumer-name.js'
import type { WaitingMessage } from '../decisions/failover-message.js'
import { lacksMuch } from '../decisions/offer.js'
import { shareAt, wantedAt } from '../decisions/water-level.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { DealtPortion, Portion } from '../ownership/dealer.js'
import type { Ownership } from '../ownership/ownership.js'
import type { StreamIntake } from '../ownership/stream-intake.js'
import type { StreamOffers } from '../ownership/stream-offers.js'
import type { ToldEntries } from '../ownership/told-entries.js'
import { type Agent, type AgentContext, reportFailure } from './agent.js'

/** The next entries of a consumer are dealt while the ones before are being taken. */
const PULLS_AT_ONCE = 2
/** A plan moves streams to clients that lack as much. Those that lack less ask only for what is left later. */
const LEAST_PLANNED_LACK = 0.5
/** After so many staggers, entries that no client below the level has taken may be taken by any client. */
const LATE_STAGGERS = 3
/** About how many clients try then. */
const LATE_CLIENTS = 4
/** What has waited in the pool for so many rounds of the probe may be taken by any client. */
const LONG_ROUNDS = 4
/** A hint can name anything: so many consumers are remembered at once. */
const GREATEST_CONSUMERS = 1000
/** A session is young for so many rounds of the probe. */
const YOUNG_ROUNDS = 4

export interface FailoverContext extends AgentContext {
  readonly intake: StreamIntake
  readonly offers: StreamOffers
  readonly told: ToldEntries
  readonly ownership: Ownership
  readonly claimMode: 'manual' | 'auto'
  readonly claimStaggerMs: number
  readonly probeIntervalMs: number
  readonly lbsIdleTimeMs: number
  readonly maxOwnedStreams: number
  readonly weight: number
  /** For how long the session is to be given nothing, because it is one of many that have begun of late. */
  readonly dampedMs: number
  /** Resolves when the session has taken back what its client had: until then it does not know how much it lacks. */
  readonly whenRecovered: () => Promise<void>
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
}

type Waiting = Omit<WaitingMessage, 'type'>

interface Pull {
  readonly consumer: string
  /** How many streams this client may hold at most because of it. */
  readonly target: number
  readonly idleMs: number
}

/** What is under way of one consumer, and what was heard meanwhile and not yet acted on. */
interface Pulls {
  underWay: number
  heard: Waiting | null
}

type PullResult = { readonly isLeft: boolean } | { readonly waitMs: number } | 'no room'

export class Failover implements Agent {
  readonly #context: FailoverContext
  readonly #youngUntilMs: number
  readonly #dampedUntilMs: number
  /** Consumers that are being pulled from. */
  readonly #pulling = new Map<string, Pulls>()
  /** Consumers that are pulled from again in a while. */
  readonly #later = new Set<string>()
  /** What could not be taken because there was no room. */
  readonly #postponed = new Map<string, Waiting>()
  readonly #tasks = new Set<Promise<void>>()

  constructor(context: FailoverContext) {
    this.#context = context
    this.#youngUntilMs = this.#nowMs() + YOUNG_ROUNDS * context.probeIntervalMs
    this.#dampedUntilMs = this.#nowMs() + context.dampedMs
  }

  async run(): Promise<void> {
    await aborted(this.#context.signal)
    await Promise.all(this.#tasks)
  }

  /** Entries are said to wait for an owner under a consumer. */
  hearWaiting(waiting: Waiting): void {
    const { consumer } = waiting
    if (consumer === this.#context.session.consumer) return
    const pulls = this.#pulling.get(consumer) ?? { underWay: 0, heard: null }
    if (pulls.underWay >= PULLS_AT_ONCE) {
      pulls.heard = waiting
      return
    }
    if (this.#pulling.size >= GREATEST_CONSUMERS) return
    this.#track(async () => {
      this.#pulling.set(consumer, pulls)
      pulls.underWay++
      try {
        await this.#shareOut(waiting)
      } finally {
        const { heard } = pulls
        pulls.heard = null
        if (--pulls.underWay === 0) this.#pulling.delete(consumer)
        if (heard) this.hearWaiting(heard)
      }
    })
  }

  get #isDamped(): boolean {
    return this.#nowMs() < this.#dampedUntilMs
  }

  /** Goes on with what was put off because there was no room. */
  resume(): void {
    if (this.#room === 0) return
    const postponed = [...this.#postponed.values()]
    this.#postponed.clear()
    for (const waiting of postponed) this.hearWaiting(waiting)
  }

  async #shareOut(waiting: Waiting): Promise<void> {
    const { consumer, firstLevel = null, pending = 1, waiting: all = pending } = waiting
    await this.#context.whenRecovered()
    await this.#takeUnclaimed(consumer)
    const held = this.#held
    const comesFirst = lacksMuch(firstLevel, held, this.#context)
    const share = this.#shareOf(waiting)
    const isMeant = consumer !== POOL_OF_REBALANCED || share - held >= LEAST_PLANNED_LACK
    const wanted = comesFirst && isMeant ? wantedAt(share, held, { pending, waiting: all }) : 0
    const target = held + wanted
    const result = await this.#pull({ consumer, target, idleMs: 0 })
    if (result === 'no room') this.#postpone(waiting)
    else if ('waitMs' in result) this.#hearAgain(waiting, result.waitMs)
    else if (result.isLeft) {
      if (this.#room === 0) this.#postpone(waiting)
      else this.#pullLate(waiting, target > held)
    }
  }

  /** In manual mode a young session takes, without asking the application, entries that nobody has claimed for long. */
  async #takeUnclaimed(consumer: string): Promise<void> {
    const { claimMode, intake, lbsIdleTimeMs, recorder, signal } = this.#context
    if (claimMode === 'auto' || isPool(consumer)) return
    const startMs = this.#nowMs()
    let taken = 0
    while (this.#nowMs() < this.#youngUntilMs && this.#room > 0 && !signal.aborted) {
      const portion = { from: consumer, count: this.#room, idleMs: lbsIdleTimeMs }
      const { handled, mayBeMore, won } = await intake.takeDealt(portion)
      taken += won
      if (handled === 0 || !mayBeMore) break
    }
    if (taken > 0) recorder.startupRecovery({ taken, durationMs: this.#nowMs() - startMs })
  }

  /** Has entries dealt up to a number of streams held. */
  async #pull({ consumer, idleMs, target }: Pull): Promise<PullResult> {
    while (!this.#context.signal.aborted) {
      const lack = target - this.#held
      if (lack <= 0) return { isLeft: true }
      const count = Math.min(lack, this.#room)
      if (count === 0) return 'no room'
      const { handled, mayBeMore, waitMs } = await this.#act({
        from: consumer,
        count,
        idleMs,
      })
      if (waitMs > 0) return { waitMs }
      if (!mayBeMore) return { isLeft: false }
      if (handled === 0) return { isLeft: true }
    }
    return { isLeft: false }
  }

  #act(portion: Portion): Promise<DealtPortion> {
    const { claimMode, intake, offers } = this.#context
    return claimMode === 'auto' ? intake.takeDealt(portion) : offers.offer(portion)
  }

  #shareOf({ fill, level }: Waiting): number {
    const known = fill === undefined ? level : fill
    return this.#isDamped ? this.#held : shareAt(known ?? Number.POSITIVE_INFINITY, this.#context)
  }

  /**
   * What is left is taken by a few, whatever they have. That goes for the pool only when it has waited for long, because
   * those it was meant for may be busy with the rest of it; before that, clients take up to their share.
   */
  #pullLate(waiting: Waiting, lacked: boolean): void {
    const { claimStaggerMs, probeIntervalMs } = this.#context
    const { consumer, living } = waiting
    const lateMs = LATE_STAGGERS * claimStaggerMs
    const pulls: Pull[] = []
    const isLucky = Math.random() < LATE_CLIENTS / (living ?? 1)
    if (isPool(consumer)) {
      const target = Math.ceil(this.#shareOf(waiting) - 1e-9)
      if (lacked || target > this.#held) pulls.push({ consumer, target, idleMs: lateMs })
    }
    if (isLucky || (lacked && !isPool(consumer))) {
      const idleMs = isPool(consumer) ? Math.max(lateMs, LONG_ROUNDS * probeIntervalMs) : 0
      pulls.push({ consumer, target: Number.POSITIVE_INFINITY, idleMs })
    }
    if (pulls.length === 0) return
    this.#inAWhile(consumer, lateMs * (1 + Math.random() / 2), async () => {
      let result: PullResult = { isLeft: true }
      for (const pull of pulls) {
        result = await this.#pull(pull)
        if (result === 'no room' || 'waitMs' in result || !result.isLeft) break
      }
      if (result === 'no room') this.#postpone(waiting)
      else if ('waitMs' in result) this.#hearAgain(waiting, result.waitMs)
    })
  }

  /** Asks again when this client may have what is kept from it for now. */
  #hearAgain({ consumer }: Waiting, waitMs: number): void {
    const ms = Math.min(waitMs, this.#context.lbsIdleTimeMs)
    this.#inAWhile(consumer, ms, async () => this.hearWaiting({ consumer, level: null, living: null }))
  }

  #inAWhile(consumer: string, ms: number, act: () => Promise<void>): void {
    const { session, signal } = this.#context
    if (this.#later.has(consumer) || this.#later.size >= GREATEST_CONSUMERS) return
    this.#track(async () => {
      this.#later.add(consumer)
      await sleep(ms, signal)
      this.#later.delete(consumer)
      if (session.isHeld() && !signal.aborted) await act()
    })
  }

  #postpone(waiting: Waiting): void {
    if (this.#postponed.size < GREATEST_CONSUMERS) this.#postponed.set(waiting.consumer, waiting)
  }

  /** Streams this client owns, is taking, or has told its application of. */
  get #held(): number {
    return this.#context.ownership.held + this.#context.told.count
  }

  /** How many entries may be acted on now. */
  get #room(): number {
    const { intake, ownership, told } = this.#context
    return Math.max(0, Math.min(intake.dealRoom, ownership.capacity - told.count))
  }

  #track(work: () => Promise<void>): void {
    const { logger, session, signal } = this.#context
    if (signal.aborted) return
    const task = work()
      .catch((error: unknown) => {
        if (session.isHeld()) reportFailure('failover', error, logger)
      })
      .finally(() => this.#tasks.delete(task))
    this.#tasks.add(task)
  }

  #nowMs(): number {
    return this.#context.clock.now().monotonicMs
  }
}
