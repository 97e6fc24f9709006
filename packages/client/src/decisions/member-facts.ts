/** What the clients of a service know of each other, as each enters it when a session begins. */

export interface MemberFacts {
  /** How many streams it may own; Infinity without a limit. */
  readonly maxOwnedStreams: number
  /** How many streams it is to have beside a client with weight 1. */
  readonly weight: number
  readonly heartbeatTtlMs: number
}

/** What is assumed of a client that has entered nothing, for instance because its entry was deleted. */
const UNKNOWN: MemberFacts = { maxOwnedStreams: Number.POSITIVE_INFINITY, weight: 1, heartbeatTtlMs: 0 }

export function formatMemberFacts({ heartbeatTtlMs, maxOwnedStreams, weight }: MemberFacts): string {
  return `${maxOwnedStreams === Number.POSITIVE_INFINITY ? '-' : maxOwnedStreams} ${weight} ${heartbeatTtlMs}`
}

export function parseMemberFacts(text: string): MemberFacts {
  const match = /^(-|\d+) (\d+(?:\.\d+)?) (\d+)/.exec(text)
  if (match === null) return UNKNOWN
  const [, limit, weight, ttl] = match as unknown as [string, string, string, string]
  return {
    maxOwnedStreams: limit === '-' ? Number.POSITIVE_INFINITY : Number(limit),
    weight: Number(weight),
    heartbeatTtlMs: Number(ttl),
  }
}
