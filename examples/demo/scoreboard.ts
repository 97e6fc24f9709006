/**
 * What is known of the run from the reports of its processes: progress, who owns what, how long takeovers took, how
 * streams were shared again.
 */
import type { SessionState } from '@redis-stream-client/client'
import type { Report } from './reports.js'
import { Sharing } from './sharing.js'

export type FaultKind = 'killed' | 'stopped'

export interface Takeover {
  readonly by: string
  readonly afterMs: number
}

/** A consumer was killed or stopped, and what came of it. */
export class Fault {
  readonly kind: FaultKind
  readonly consumer: string
  readonly atMs: number
  /** What the consumer owned then. */
  readonly airports: ReadonlySet<string>
  /** Who owned the airport next, and how long after the fault. */
  readonly takeovers: Map<string, Takeover> = new Map()

  constructor(kind: FaultKind, consumer: string, atMs: number, airports: ReadonlySet<string>) {
    this.kind = kind
    this.consumer = consumer
    this.atMs = atMs
    this.airports = airports
  }

  get isRepaired(): boolean {
    return this.takeovers.size === this.airports.size
  }
}

/** One consumer, as far as it has told. */
export interface Standing {
  state: SessionState | FaultKind
  readonly airports: Set<string>
  /** How many streams it was told it had lost. */
  lost: number
  /** What it was answered as a former owner, and how often. */
  readonly refused: Map<string, number>
}

export class Scoreboard {
  readonly standings: Map<string, Standing>
  readonly faults: Fault[] = []
  /** Since a consumer has joined; null before. */
  sharing: Sharing | null = null
  sent = 0
  readonly #counted = new Map<string, number>()
  readonly #ownerOf = new Map<string, string>()
  readonly #finished = new Set<string>()

  constructor(consumers: readonly string[]) {
    this.standings = new Map(consumers.map((name) => [name, newStanding()]))
  }

  /** Flights in the results. */
  get counted(): number {
    return [...this.#counted.values()].reduce((sum, flights) => sum + flights, 0)
  }

  get finished(): number {
    return this.#finished.size
  }

  standing(consumer: string): Standing {
    const standing = this.standings.get(consumer)
    if (standing === undefined) throw new Error(`there is no ${consumer}`)
    return standing
  }

  addConsumer(name: string, atMs: number): Standing {
    const standing = newStanding()
    this.standings.set(name, standing)
    this.sharing = new Sharing(name, atMs)
    return standing
  }

  /** Somebody has just killed or stopped a consumer. */
  addFault(kind: FaultKind, consumer: string, atMs: number): Fault {
    const standing = this.standing(consumer)
    const fault = new Fault(kind, consumer, atMs, new Set(standing.airports))
    standing.state = kind
    this.faults.push(fault)
    return fault
  }

  accept(name: string, report: Report): void {
    switch (report.type) {
      case 'sent':
        this.sent = report.flights
        break
      case 'session':
        this.standing(name).state = report.state
        break
      case 'took':
        this.#take(name, report.airport, report.atMs)
        break
      case 'counted':
        for (const [airport, flights] of Object.entries(report.flights)) this.#count(airport, flights)
        break
      case 'left':
        if (report.how === 'finished') this.#finished.add(report.airport)
        if (report.how === 'lost') this.standing(name).lost++
        if (report.how === 'released') this.sharing?.gaveBack()
        this.#leave(name, report.airport)
        this.#lookAtShares()
        break
      case 'moved':
        this.sharing?.moved(report.ownerlessMs)
        break
      case 'refused':
        countOne(this.standing(name).refused, report.code)
        break
      default:
        report satisfies never
    }
  }

  #take(consumer: string, airport: string, atMs: number): void {
    const former = this.#ownerOf.get(airport)
    if (former !== undefined) {
      const fault = this.faults.findLast((each) => each.consumer === former && each.airports.has(airport))
      if (fault?.takeovers.has(airport) === false) {
        fault.takeovers.set(airport, { by: consumer, afterMs: atMs - fault.atMs })
      }
      this.#leave(former, airport)
    }
    this.#ownerOf.set(airport, consumer)
    this.standing(consumer).airports.add(airport)
    this.#lookAtShares()
  }

  #lookAtShares(): void {
    const working = [...this.standings.values()].filter(({ state }) => state === 'held')
    this.sharing?.look(
      working.map(({ airports }) => airports.size),
      Date.now(),
    )
  }

  #leave(consumer: string, airport: string): void {
    this.standing(consumer).airports.delete(airport)
    if (this.#ownerOf.get(airport) === consumer) this.#ownerOf.delete(airport)
  }

  /** Results only grow; a report that comes late must not make less of what is known. */
  #count(airport: string, flights: number): void {
    this.#counted.set(airport, Math.max(flights, this.#counted.get(airport) ?? 0))
  }
}

function newStanding(): Standing {
  return { state: 'starting', airports: new Set(), lost: 0, refused: new Map() }
}

/** The middle one and the last one, in order. */
export function medianAndWorst(timesMs: Iterable<number>): { medianMs: number; worstMs: number } | null {
  const sorted = [...timesMs].sort((a, b) => a - b)
  const [medianMs, worstMs] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted.at(-1)]
  return medianMs === undefined || worstMs === undefined ? null : { medianMs, worstMs }
}

export function countOne<Key>(counts: Map<Key, number>, key: Key): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}
