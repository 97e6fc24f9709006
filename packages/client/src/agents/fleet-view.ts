/** What this client last knew of the other clients, from a roster or from the level that the winner of a round writes. */
import type { Clock } from '../decisions/clock.js'
import { isPool } from '../decisions/consumer-name.js'
import { type FleetLevel, type FoundLevel, levelOf, parseFoundLevel } from '../decisions/water-level.js'
import type { RosterLine } from '../redis/service-scripts.js'

export interface FleetFacts extends FleetLevel {
  /** Streams that wait for an owner. */
  readonly waiting: number
  /** When, milliseconds since 1970. */
  readonly atMs: number
}

/** What there is to read. */
export interface Backlog extends FleetLevel {
  /** How many clients there are has changed so long ago. */
  readonly sameForMs: number
}

export class FleetView {
  readonly #clock: Clock
  #found: FoundLevel | null = null
  #atMs = 0
  #changedAtMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The level counts what nobody has read yet. */
  get facts(): FleetFacts | null {
    if (this.#found === null) return null
    const { backlogLevel, level, living, waiting } = this.#found
    return { level: backlogLevel ?? level, living, waiting, atMs: this.#atMs }
  }

  /** The level with entries that nobody had read yet at the last round; null if there were none. */
  get backlog(): Backlog | null {
    if (this.#found === null || this.#found.backlogLevel === null) return null
    const sameForMs = this.#clock.now().monotonicMs - this.#changedAtMs
    return { level: this.#found.backlogLevel, living: this.#found.living, sameForMs }
  }

  /** `undelivered`: entries that nobody has read. Answers what the others need to know. */
  read(roster: readonly RosterLine[], undelivered = 0): FoundLevel {
    const waiting = roster.reduce((sum, line) => sum + (line.isAlive ? 0 : line.pending), undelivered)
    const backlogLevel = undelivered > 0 ? levelOf(roster, undefined, undelivered).level : null
    const found = { ...levelOf(roster), backlogLevel, waiting }
    this.#note(found)
    return found
  }

  /** `text`: the level key. */
  hear(text: string): void {
    const found = parseFoundLevel(text)
    if (found !== null) this.#note(found)
  }

  #note(found: FoundLevel): void {
    if (this.#found?.living !== found.living) this.#changedAtMs = this.#clock.now().monotonicMs
    this.#found = found
    this.#atMs = Date.now()
  }
}

/** How many entries wait in the pool. */
export function waitingInPool(roster: readonly RosterLine[]): number {
  return roster.reduce((sum, { consumer, pending }) => sum + (isPool(consumer) ? pending : 0), 0)
}
