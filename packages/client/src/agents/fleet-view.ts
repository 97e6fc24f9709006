/** What this client last knew of the other clients, from a roster or a message. */
import { isPool } from '../decisions/consumer-name.js'
import { type FleetLevel, levelOf } from '../decisions/water-level.js'
import type { RosterLine } from '../redis/service-scripts.js'

export interface FleetFacts extends FleetLevel {
  /** Streams that wait for an owner; null where only the level was heard. */
  readonly waiting: number | null
  /** When, milliseconds since 1970. */
  readonly atMs: number
}

export class FleetView {
  #facts: FleetFacts | null = null

  get facts(): FleetFacts | null {
    return this.#facts
  }

  read(roster: readonly RosterLine[]): FleetLevel {
    const fleet = levelOf(roster)
    const waiting = roster.reduce((sum, line) => sum + (line.isAlive ? 0 : line.pending), 0)
    this.#facts = { ...fleet, waiting, atMs: Date.now() }
    return fleet
  }

  hear(level: number | null, living: number | null): void {
    if (living === null) return
    this.#facts = { level: level ?? Number.POSITIVE_INFINITY, living, waiting: null, atMs: Date.now() }
  }
}

/** How many entries wait in the pool. */
export function waitingInPool(roster: readonly RosterLine[]): number {
  return roster.reduce((sum, { consumer, pending }) => sum + (isPool(consumer) ? pending : 0), 0)
}
