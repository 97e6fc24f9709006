/**
 * Which clients give how many streams, so that all have their share. A plan says how many streams a client keeps, not
 * how many it gives: two plans at once, or one that is read twice, then do no harm. It is a fixed point: computed again
 * from its own result it moves nothing. It moves as few streams as are enough.
 */
import { z } from 'zod'
import type { MemberFacts } from './member-facts.js'
import { LEAST_TOLERANCE, shareAt, TOLERANCE, waterLevel } from './water-level.js'

/** Bounds the size of the plan's key: of more clients that have too many streams, those with most to give come first. */
const GREATEST_LENGTH = 64

export interface PlanMember {
  readonly consumer: string
  readonly owned: number
  readonly facts: Pick<MemberFacts, 'maxOwnedStreams' | 'weight'>
}

export interface RebalancePlan {
  readonly level: number
  /** How many clients there are. */
  readonly living: number
  /** How many streams each client that gives may have under way at once. */
  readonly inFlight: number
  /** What clients with too many keep. */
  readonly keep: Readonly<Record<string, number>>
}

export interface Balance {
  readonly level: number
  /** Streams to move until every client has its share. */
  readonly moves: number
  /** How many clients have less than their share. */
  readonly receivers: number
  /** What each client with too many keeps, those with most to give first. */
  readonly keep: ReadonlyMap<string, number>
  /** Whether a client is further from its share than is tolerated. Then streams move until the share itself is reached. */
  readonly isNeeded: boolean
  /** The most any client has of its share; 1 in balance. */
  readonly imbalance: number
}

/** Compares what clients own with their shares. `waiting`: streams without an owner, which count as well. */
export function balanceOf(members: readonly PlanMember[], waiting: number): Balance {
  const total = members.reduce((sum, { owned }) => sum + owned, waiting)
  const level = waterLevel(
    total,
    members.map(({ facts }) => facts),
  )
  const quotas = wholeShares(members, level, total)
  const excesses = members
    .map((member, index) => ({ member, quota: quotas[index] as number }))
    .map(({ member, quota }) => ({ member, quota, excess: member.owned - quota }))
  const givers = excesses.filter(({ excess }) => excess > 0).sort((a, b) => b.excess - a.excess)
  const receivers = excesses.filter(({ excess }) => excess < 0)
  const given = givers.reduce((sum, { excess }) => sum + excess, 0)
  const lack = receivers.reduce((sum, { excess }) => sum - excess, 0)
  // Where the others cannot take all of it, the rest stays.
  let stays = Math.max(0, given - lack)
  for (const giver of givers) {
    const kept = Math.min(stays, giver.excess)
    giver.quota += kept
    stays -= kept
  }
  const isOff = ({ facts, owned }: PlanMember): boolean => {
    const share = shareAt(level, facts)
    const slack = Math.max(LEAST_TOLERANCE, TOLERANCE * share)
    return owned > share + slack || owned < share - slack
  }
  const ratios = members.map(({ facts, owned }) => owned / Math.max(shareAt(level, facts), 1))
  return {
    level,
    moves: Math.min(given, lack),
    receivers: receivers.length,
    keep: new Map(
      givers.flatMap(({ member, quota }) => (member.owned > quota ? [[member.consumer, quota]] : [])),
    ),
    isNeeded: Math.min(given, lack) > 0 && members.some(isOff),
    imbalance: Math.max(1, ...ratios),
  }
}

/** The plan that brings clients to their shares with at most so many streams under way to each receiver. */
export function planOf(balance: Balance, living: number, movesInFlight: number): RebalancePlan {
  const givers = [...balance.keep].slice(0, GREATEST_LENGTH)
  const inFlight = Math.floor((movesInFlight * balance.receivers) / Math.max(1, givers.length))
  return {
    level: balance.level,
    living,
    inFlight: Math.max(1, inFlight),
    keep: Object.fromEntries(givers),
  }
}

/** Whole numbers that add up to `total`: what is left after rounding down stays with the clients that own most. */
function wholeShares(members: readonly PlanMember[], level: number, total: number): number[] {
  const shares = members.map(({ facts }) => shareAt(level, facts))
  const quotas = shares.map((share) => Math.floor(share + 1e-9))
  let left =
    Math.round(Math.min(total, Number.MAX_SAFE_INTEGER)) - quotas.reduce((sum, quota) => sum + quota, 0)
  const byWhatTheyKeep = members
    .map((member, index) => ({ member, index }))
    .filter(({ index }) => (shares[index] as number) - (quotas[index] as number) > 1e-9)
    .sort((a, b) => aboveQuota(b) - aboveQuota(a) || (a.member.consumer < b.member.consumer ? -1 : 1))
  for (const { index } of byWhatTheyKeep) {
    if (left-- <= 0) break
    quotas[index] = (quotas[index] as number) + 1
  }
  return quotas

  function aboveQuota({ index, member }: { index: number; member: PlanMember }): number {
    return member.owned - (quotas[index] as number)
  }
}

const schema = z.object({
  level: z.number().nonnegative(),
  living: z.number().nonnegative(),
  inFlight: z.number().positive(),
  keep: z.record(z.string(), z.number().nonnegative()),
})

export function encodePlan(plan: RebalancePlan): string {
  return JSON.stringify(plan)
}

/** Null if the text is no plan. */
export function decodePlan(text: string): RebalancePlan | null {
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return null
  }
}
