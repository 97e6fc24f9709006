/**
 * How much a session may read while clients have only just begun. In a deploy, or when a fleet comes back, they begin
 * within seconds of each other, and the first of them knows of no other. So each reads slowly at first; and where a
 * backlog waits while clients still come, each leaves the others their shares of what the last round has found.
 */
import type { Clock } from '../decisions/clock.js'
import { shareAt } from '../decisions/water-level.js'
import type { Ownership } from '../ownership/ownership.js'
import type { FleetView } from './fleet-view.js'

/** A session is young for so long, and reads so many streams a millisecond meanwhile. */
interface Youth {
  readonly ms: number
  readonly rate: number
}

/** Processes start within seconds of each other. Clients that have lost their sessions come back within moments. */
const FIRST: Youth = { ms: 2500, rate: 0.06 }
const LATER: Youth = { ms: 750, rate: 0.4 }
/** For so long after the number of clients has changed, more may come; a part of each share is left for them at first. */
const CHANGING_MS = 3000
const COMING_MS = 1500
const SHARE_WHILE_COMING = 0.8

export interface ReadingPaceContext {
  readonly clock: Clock
  readonly ownership: Ownership
  readonly view: FleetView
  readonly maxOwnedStreams: number
  readonly weight: number
}

export class ReadingPace {
  readonly #context: ReadingPaceContext
  #youth = LATER
  #beganMs = Number.NaN
  #read = 0

  constructor(context: ReadingPaceContext) {
    this.#context = context
  }

  /** A session of this client begins to read. */
  begin(): void {
    this.#youth = Number.isNaN(this.#beganMs) ? FIRST : LATER
    this.#beganMs = this.#nowMs()
    this.#read = 0
  }

  get isYoung(): boolean {
    return this.#ageMs < this.#youth.ms
  }

  /** How many entries may be read now, beside all other limits. */
  get allowance(): number {
    const ofYoung = this.isYoung ? 1 + this.#ageMs * this.#youth.rate - this.#read : Number.POSITIVE_INFINITY
    return Math.max(0, Math.floor(Math.min(ofYoung, this.#lack)))
  }

  noteRead(entries: number): void {
    this.#read += entries
  }

  /** What this client lacks of its share of a backlog. */
  get #lack(): number {
    const { ownership, view } = this.#context
    const { backlog } = view
    if (backlog === null || backlog.living < 2) return Number.POSITIVE_INFINITY
    if (Math.min(backlog.sameForMs, this.#ageMs) > CHANGING_MS) return Number.POSITIVE_INFINITY
    const share = shareAt(backlog.level, this.#context)
    return Math.ceil(backlog.sameForMs < COMING_MS ? SHARE_WHILE_COMING * share : share) - ownership.held
  }

  get #ageMs(): number {
    return this.#nowMs() - this.#beganMs
  }

  #nowMs(): number {
    return this.#context.clock.now().monotonicMs
  }
}
