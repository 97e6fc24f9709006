/**
 * Shares out what a dead or leaving client has left behind.
 *
 * Every client that has room pages the entries pending under the dead consumer. Rendezvous hashing puts the living
 * clients in an order for each entry: the first choice acts at once, the next few after `claimStaggerMs`, everyone
 * after three times that, and each time only on what is still pending there. To act is to tell the application
 * (StreamExpired) or, in auto mode, to claim. The same entry of the same dead session is acted on again only after
 * one TTL, two, four, up to `lbsIdleTimeMs`.
 */

import { sleep } from '../async/sleep.js'
import type { Clock } from '../decisions/clock.js'
import { clientIdOf } from '../decisions/consumer-name.js'
import { Rendezvous } from '../decisions/rendezvous.js'
import { Repeats } from '../decisions/repeats.js'
import type { SafeLogger } from '../logger.js'
import type { Deliveries } from '../ownership/deliveries.js'
import type { Lbs, ReadableEntry } from '../redis/lbs.js'
import type { LockRecords } from '../redis/lock-records.js'
import { isFallen } from '../redis/service-scripts.js'
import type { Persistence } from '../session/persist.js'
import type { Session } from '../session/session.js'
import { type Agent, reportFailure } from './agent.js'
import type { Claims } from './claims.js'
import { pendingPages } from './pending-pages.js'
import type { RosterReader } from './roster-reader.js'

const PAGE = 500
/** Ranks asked in each of the three stages. */
const STAGES = [
  { greatestRank: 0, afterStaggers: 0 },
  { greatestRank: 3, afterStaggers: 1 },
  { greatestRank: Number.POSITIVE_INFINITY, afterStaggers: 3 },
] as const

export interface FailoverContext {
  readonly roster: RosterReader
  readonly lbs: Lbs
  readonly records: LockRecords
  readonly persistence: Persistence
  readonly claims: Claims
  readonly deliveries: Deliveries
  readonly claimMode: 'manual' | 'auto'
  readonly claimStaggerMs: number
  readonly heartbeatTtlMs: number
  readonly lbsIdleTimeMs: number
  readonly clock: Clock
  readonly logger: SafeLogger
  /** While the recovery of a new session takes what is its own, nobody is told of it: both would start the work. */
  readonly isRecovering: () => boolean
}

/** What is offered: all that is pending under a dead consumer, or some entries its living owner gave back. */
export interface Offer {
  readonly consumer: string
  readonly ids: readonly string[] | null
}

export class Failover implements Agent {
  readonly #context: FailoverContext
  readonly #told: Repeats
  #session: Session | undefined
  #signal: AbortSignal | undefined
  /** Offers being worked on, by key; true if the same was heard again meanwhile. */
  readonly #running = new Map<string, boolean>()
  /** Offers nothing could be made of for want of room. */
  readonly #postponed = new Map<string, Offer>()
  /**
   * Entries the application has been told of and may be about to claim, the oldest first. While capacity is limited
   * each keeps a place for one TTL: whoever is told of more than he can take would be told again much later.
   */
  readonly #open = new Map<string, { readonly offer: Offer; readonly untilMs: number }>()
  readonly #tasks = new Set<Promise<void>>()

  constructor(context: FailoverContext) {
    this.#context = context
    this.#told = new Repeats(context.heartbeatTtlMs, context.lbsIdleTimeMs)
  }

  async run(session: Session, signal: AbortSignal): Promise<void> {
    this.#session = session
    this.#signal = signal
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else signal.addEventListener('abort', () => resolve(), { once: true })
    })
    this.#session = undefined
    this.#postponed.clear()
    this.#open.clear()
    await Promise.all(this.#tasks)
  }

  /** A consumer is said to be dead. */
  hearDead(consumer: string): void {
    this.#consider({ consumer, ids: null })
  }

  /** The heartbeat key of a client is gone: some session of it is dead. */
  hearSilent(clientId: string): void {
    this.#track(async (session) => {
      const roster = await this.#context.roster.read(session)
      for (const line of roster) {
        if (isFallen(line) && clientIdOf(line.consumer) === clientId) this.hearDead(line.consumer)
      }
    })
  }

  /** A living client has given entries back. */
  hearReleased(consumer: string, ids: readonly string[]): void {
    if (consumer !== this.#session?.consumer) this.#consider({ consumer, ids })
  }

  /** Entries this client gave back itself, and nobody wants them: it may be asked again. */
  takeBack(ids: readonly string[]): void {
    if (ids.length === 0) return
    this.#track(async (session) => {
      await this.#actOn(session, { consumer: session.consumer, ids }, ids)
    })
  }

  /** The application claims an entry: its place is the claim's now. Answers the offer it had been told of, if any. */
  hearClaim(idInLbs: string): Offer | undefined {
    const open = this.#open.get(idInLbs)
    this.#open.delete(idInLbs)
    return open?.offer
  }

  /** There was no room for a claim after all: the application is told again when there is. */
  hearNoRoom(offer: Offer, idInLbs: string): void {
    this.#told.forget(toldKey(offer, idInLbs))
    this.#postpone(offer)
  }

  /** Takes up what was put off for want of room. */
  resume(): void {
    if (this.#room() === 0 || this.#context.isRecovering()) return
    const offers = [...this.#postponed.values()]
    this.#postponed.clear()
    for (const offer of offers) this.#consider(offer)
    this.#told.forgetOld(this.#nowMs())
  }

  #consider(offer: Offer): void {
    const session = this.#session
    if (session === undefined || offer.consumer === session.consumer) return
    const key = keyOf(offer)
    if (this.#running.has(key)) {
      this.#running.set(key, true)
    } else {
      this.#running.set(key, false)
      this.#track(async () => {
        try {
          await this.#stages(session, offer)
        } finally {
          const isHeardAgain = this.#running.get(key) === true
          this.#running.delete(key)
          if (isHeardAgain && !this.#signal?.aborted) this.#consider(offer)
        }
      })
    }
  }

  async #stages(session: Session, offer: Offer): Promise<void> {
    const { claimStaggerMs, isRecovering, roster: reader } = this.#context
    if (this.#room() === 0 || isRecovering()) return this.#postpone(offer)
    if (offer.ids !== null && this.#due(offer, offer.ids).length === 0) return
    if (offer.ids === null && !(await this.#hasLeftEntries(session, offer.consumer))) return
    // What a living client gives back comes in many small offers: for their order the others of a moment ago will do.
    const roster = await (offer.ids === null ? reader.read(session) : reader.recent(session))
    if (offer.ids === null && !roster.some((line) => line.consumer === offer.consumer && isFallen(line)))
      return
    const others = roster.filter((line) => line.isAlive && !isOneOf(line.consumer, session.consumer, offer))
    const rendezvous = new Rendezvous(
      session.consumer,
      others.map((line) => line.consumer),
    )
    let staggers = 0
    for (const { greatestRank, afterStaggers } of STAGES) {
      await sleep((afterStaggers - staggers) * claimStaggerMs, this.#signalOf(session))
      staggers = afterStaggers
      if (!session.isHeld() || this.#signalOf(session).aborted) return
      const isLeft = await this.#stage(
        session,
        offer,
        (id) => rendezvous.rankOf(id, greatestRank) <= greatestRank,
      )
      if (!isLeft) return
    }
  }

  /** A client that had nothing dies cheaply: the roster is not read for it. */
  async #hasLeftEntries(session: Session, consumer: string): Promise<boolean> {
    const { lbs, persistence } = this.#context
    const first = await persistence.send('read pending entries', session, () =>
      lbs.pendingIds(consumer, 1, null),
    )
    return first.length > 0
  }

  /** Goes once through what is offered. Answers whether anything of it is still there for a later stage. */
  async #stage(session: Session, offer: Offer, isMine: (id: string) => boolean): Promise<boolean> {
    if (offer.ids !== null) {
      await this.#actOn(session, offer, offer.ids.filter(isMine))
      return true
    }
    let isLeft = false
    for await (const ids of pendingPages(this.#context, session, {
      consumer: offer.consumer,
      pageSize: PAGE,
    })) {
      isLeft = true
      if (!(await this.#actOn(session, offer, ids.filter(isMine)))) break
    }
    return isLeft
  }

  /** False if it had to stop for want of room; the rest is put off. */
  async #actOn(session: Session, offer: Offer, ids: readonly string[]): Promise<boolean> {
    let rest = this.#due(offer, ids)
    while (rest.length > 0 && !this.#signalOf(session).aborted) {
      const count = this.#room()
      if (count === 0) {
        this.#postpone(offer)
        return false
      }
      const part = rest.slice(0, count)
      rest = rest.slice(count)
      for (const id of part) {
        this.#told.say(toldKey(offer, id), this.#nowMs())
        this.#keepPlace(offer, id)
      }
      await this.#act(session, offer, part)
    }
    return true
  }

  #due(offer: Offer, ids: readonly string[]): readonly string[] {
    const nowMs = this.#nowMs()
    return ids.filter((id) => this.#told.isDue(toldKey(offer, id), nowMs))
  }

  /** How many entries may be acted on now. */
  #room(): number {
    const { claims } = this.#context
    const nowMs = this.#nowMs()
    for (const [id, { untilMs }] of this.#open) {
      if (untilMs > nowMs) break
      this.#open.delete(id)
    }
    return Math.max(0, Math.min(claims.room, claims.capacity - this.#open.size))
  }

  #keepPlace(offer: Offer, id: string): void {
    const { claimMode, claims, heartbeatTtlMs } = this.#context
    if (claimMode === 'auto' || claims.capacity === Number.POSITIVE_INFINITY) return
    this.#open.delete(id) // keeps the map in the order of time
    this.#open.set(id, { offer, untilMs: this.#nowMs() + heartbeatTtlMs })
  }

  /** What a living client gave back is not kept: its former owner offers it again. */
  #postpone(offer: Offer): void {
    if (offer.ids === null) this.#postponed.set(keyOf(offer), offer)
  }

  async #act(session: Session, offer: Offer, ids: readonly string[]): Promise<void> {
    const { claimMode, claims } = this.#context
    if (claimMode === 'auto') {
      await claims.claimAndDeliver(session, this.#signalOf(session), ids)
    } else {
      const told = new Set<string>()
      for await (const entries of claims.readable(session, ids)) {
        for (const id of await this.#tell(session, offer, entries)) told.add(id)
      }
      for (const id of ids) if (!told.has(id)) this.#open.delete(id)
    }
  }

  /** Answers the ids of those that were told. */
  async #tell(
    session: Session,
    offer: Offer,
    entries: readonly ReadableEntry[],
  ): Promise<ReadonlySet<string>> {
    const { deliveries, records } = this.#context
    const told = new Set<string>()
    const found = await records.of(entries.map(({ message }) => message.dataStreamName))
    for (const [index, { id, message }] of entries.entries()) {
      const record = found[index]
      const isReserved = record?.idInLbs === id && record.consumer === null
      const isOwn = record?.idInLbs === id && record.consumer === session.consumer
      if (isOwn || (offer.ids !== null && !isReserved)) continue // somebody has taken it
      told.add(id)
      const owner = record?.idInLbs === id ? record.consumer : offer.consumer
      await deliveries.streamExpired(
        {
          payload: { dataStreamName: message.dataStreamName, idInLbs: id },
          message,
          previousOwner: owner === null ? null : clientIdOf(owner),
        },
        this.#signalOf(session),
      )
    }
    return told
  }

  #track(work: (session: Session) => Promise<void>): void {
    const session = this.#session
    if (session === undefined) return
    const task = work(session)
      .catch((error: unknown) => {
        if (session.isHeld()) reportFailure('failover', error, this.#context.logger)
      })
      .finally(() => this.#tasks.delete(task))
    this.#tasks.add(task)
  }

  #signalOf(session: Session): AbortSignal {
    return this.#signal ?? session.signal
  }

  #nowMs(): number {
    return this.#context.clock.now().monotonicMs
  }
}

/** The client itself is not among the others, nor is the one that gives its streams back. */
function isOneOf(consumer: string, own: string, offer: Offer): boolean {
  return consumer === own || consumer === offer.consumer
}

function keyOf({ consumer, ids }: Offer): string {
  return ids === null ? consumer : `${consumer} ${ids.join(' ')}`
}

function toldKey({ consumer }: Offer, id: string): string {
  return `${consumer} ${id}`
}
