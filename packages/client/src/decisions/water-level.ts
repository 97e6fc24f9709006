/**
 * How many streams each client is to have. One number says it for all of them, the level: a client of weight w has
 * `w × level` streams, or as many as it may own if that is less. The level is the one at which these shares add up to
 * everything that has, or waits for, an owner; as when water fills vessels of different heights.
 */
import { dampedForMs, type Member, type MemberFacts } from './member-facts.js'

/** A consumer of the group. */
export interface LevelLine {
  readonly consumer: string
  readonly pending: number
  readonly isAlive: boolean
  readonly facts: Member
  /** How long ago the session began. */
  readonly ageMs: number
}

/** How long a fleet must have been the same before streams move, and a client that crashes repeatedly must have lived. */
export const SETTLE_MS = 5000

/** How far a client may be from its share without being off. */
export const TOLERANCE = 0.1
export const LEAST_TOLERANCE = 1

export interface FleetLevel {
  /** Infinity if all clients together may not own what there is. */
  readonly level: number
  /** How many clients it counts on. */
  readonly living: number
}

/**
 * The level of a roster. `without`: a consumer that is about to leave and gets no share. `undelivered`: entries that
 * nobody has read yet. Clients that crash again and
 * again get none either, unless there is nobody else.
 */
export function levelOf(roster: readonly LevelLine[], without?: string, undelivered = 0): FleetLevel {
  const receivers = receiversOf(roster, without)
  const total = roster.reduce((sum, line) => sum + line.pending, undelivered)
  return { level: levelFor(total, receivers), living: receivers.length }
}

/** The clients that count. */
export function receiversOf(roster: readonly LevelLine[], without?: string): LevelLine[] {
  const living = roster.filter((line) => line.isAlive && line.consumer !== without)
  const steady = living.filter((line) => !isDamped(line))
  return steady.length > 0 ? steady : living
}

function levelFor(total: number, receivers: readonly LevelLine[]): number {
  return waterLevel(
    total,
    receivers.map((line) => line.facts),
  )
}

/**
 * The level up to which what waits for an owner fills the clients that have least, while the others keep what they have.
 * It is lower than the level where some own more than their share: otherwise all who own less would ask for the little
 * that waits.
 */
export function fillLevel(waiting: number, receivers: readonly LevelLine[]): number {
  for (let low = receivers; ; ) {
    const owned = low.reduce((sum, line) => sum + line.pending, 0)
    const level = levelFor(waiting + owned, low)
    const below = low.filter((line) => line.pending <= shareAt(level, line.facts))
    if (below.length === low.length || below.length === 0) return level
    low = below
  }
}

/** Whether a client has begun so often of late that it is to be given nothing yet. */
export function isDamped({ ageMs, facts }: LevelLine, settleMs: number = SETTLE_MS): boolean {
  return ageMs < dampedForMs(facts.restarts, settleMs)
}

/** The level at which the shares of these clients add up to `total`; Infinity if they never do. */
export function waterLevel(
  total: number,
  members: readonly Pick<MemberFacts, 'maxOwnedStreams' | 'weight'>[],
): number {
  const heaviestFirst = members
    .filter(({ weight }) => weight > 0)
    .sort((a, b) => a.maxOwnedStreams / a.weight - b.maxOwnedStreams / b.weight)
  let left = total
  let weights = heaviestFirst.reduce((sum, { weight }) => sum + weight, 0)
  for (const { maxOwnedStreams, weight } of heaviestFirst) {
    const level = left / weights
    if (level * weight <= maxOwnedStreams) return level
    left -= maxOwnedStreams
    weights -= weight
  }
  return left > 0 || members.length === 0 ? Number.POSITIVE_INFINITY : 0
}

/** How many streams a client is to have at a level; not always a whole number. */
export function shareAt(
  level: number,
  { maxOwnedStreams, weight }: Pick<MemberFacts, 'maxOwnedStreams' | 'weight'>,
): number {
  return weight === 0 ? 0 : Math.min(maxOwnedStreams, weight * level)
}

/** What waits for an owner: under the consumer that is asked for, and under all. */
export interface WaitingEntries {
  readonly pending: number
  readonly waiting: number
}

/**
 * How many streams a client with `held` asks for under one consumer. What all clients lack together is what waits. So
 * each asks with a probability with which all of them ask for about twice as many streams as there are, also where each
 * lacks only a part of a stream, or where very many have died and each client would ask for all of them.
 */
export function wantedAt(
  share: number,
  held: number,
  { pending, waiting }: WaitingEntries,
  chance: number = Math.random(),
): number {
  const lack = share - held
  if (lack <= 0) return 0
  const wanted = Math.max(1, Math.ceil(share - 1e-9) - held)
  if (wanted === Number.POSITIVE_INFINITY) return wanted
  return chance < (2 * lack * pending) / waiting / Math.min(wanted, pending) ? wanted : 0
}

/** As the scripts and messages have it, for an offer with the level of those that come first; '' for one that is not known. */
export function formatLevel(fleet: (FleetLevel & { readonly firstLevel?: number | null }) | null): string {
  if (fleet === null) return ''
  const { firstLevel = null, level, living } = fleet
  return firstLevel === null ? `${numberOr(level)} ${living}` : `${numberOr(level)} ${living} ${firstLevel}`
}

/** What the winner of a round has found. */
export interface FoundLevel extends FleetLevel {
  /** The level with the entries that nobody has read yet; null if there are none. */
  readonly backlogLevel: number | null
  /** Streams that wait for an owner, also those that nobody has read of. */
  readonly waiting: number
}

/** As the level key has it. Scripts read only the first two values. */
export function formatFoundLevel({ backlogLevel, waiting, ...fleet }: FoundLevel): string {
  return `${formatLevel(fleet)} - ${waiting}${backlogLevel === null ? '' : ` ${numberOr(backlogLevel)}`}`
}

/** What the level key says; null if it says nothing. */
export function parseFoundLevel(text: string | null): FoundLevel | null {
  const match = /^(-|[\d.e+-]+) (\d+) - (\d+)(?: (-|[\d.e+-]+))?$/.exec(text ?? '')
  if (match === null) return null
  const [, level, living, waiting, backlogLevel] = match as unknown as [
    string,
    string,
    string,
    string,
    string?,
  ]
  const number = (each: string): number => (each === '-' ? Number.POSITIVE_INFINITY : Number(each))
  return {
    level: number(level),
    living: Number(living),
    waiting: Number(waiting),
    backlogLevel: backlogLevel === undefined ? null : number(backlogLevel),
  }
}

function numberOr(level: number): string {
  return level === Number.POSITIVE_INFINITY ? '-' : String(level)
}
