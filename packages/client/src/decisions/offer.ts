/** What is said with streams that wait for an owner, so that they go to the clients that have least. */
import type { MemberFacts } from './member-facts.js'
import {
  type FleetLevel,
  fillLevel,
  LEAST_TOLERANCE,
  type LevelLine,
  levelOf,
  receiversOf,
  shareAt,
  TOLERANCE,
} from './water-level.js'

export interface Offer extends FleetLevel {
  /** Clients that lack much at this level come first, the others a while later; null: all come at once. */
  readonly firstLevel: number | null
}

/**
 * The offer of all that waits. Where a few clients lack much and can be given all of it, they come first. So in a deploy
 * what an old client gives back goes to the new one, and no stream goes to a client that is still to be replaced.
 * `without`: a consumer that is about to leave; what it has waits as well.
 */
export function offerOf(roster: readonly LevelLine[], without?: string): Offer {
  const { level: mean, living } = levelOf(roster, without)
  const receivers = receiversOf(roster, without)
  const waiting = roster.reduce(
    (sum, line) => sum + (line.isAlive && line.consumer !== without ? 0 : line.pending),
    0,
  )
  const firstLevel = mean * (1 - TOLERANCE)
  const first = receivers.filter((line) => lacksMuch(firstLevel, line.pending, line.facts))
  if (first.length > 0 && first.length < receivers.length) {
    const level = fillLevel(waiting, first)
    if (level <= mean * (1 + TOLERANCE)) return { level, living, firstLevel }
  }
  return { level: fillLevel(waiting, receivers), living, firstLevel: null }
}

/** Whether a client with `held` streams is among those that come first. */
export function lacksMuch(
  firstLevel: number | null,
  held: number,
  facts: Pick<MemberFacts, 'maxOwnedStreams' | 'weight'>,
): boolean {
  return firstLevel === null || held < shareAt(firstLevel, facts) - LEAST_TOLERANCE
}
