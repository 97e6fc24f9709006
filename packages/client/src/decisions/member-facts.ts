/** What the clients of a service know of each other, as each enters it when a session begins. */

export interface MemberFacts {
  /** How many streams it may own; Infinity without a limit. */
  readonly maxOwnedStreams: number
  /** How many streams it is to have beside a client with weight 1. */
  readonly weight: number
  readonly heartbeatTtlMs: number
}

/** What Redis adds when a session begins. */
export interface MemberHistory {
  /** How often its sessions have begun of late; the first does not count. */
  readonly restarts: number
}

export type Member = MemberFacts & MemberHistory

/** What is assumed of a client that has entered nothing, for instance because its entry was deleted. */
const UNKNOWN: Member = {
  maxOwnedStreams: Number.POSITIVE_INFINITY,
  weight: 1,
  heartbeatTtlMs: 0,
  restarts: 0,
}

/** From the third session in quick succession on a client counts as crashing again and again, for ever longer. */
const FEW_RESTARTS = 1
const GREATEST_PATIENCE_MS = 600_000

/** For how long after its beginning a session of such a client is to be given nothing; 0 for any other client. */
export function dampedForMs(restarts: number, settleMs: number): number {
  return restarts > FEW_RESTARTS
    ? Math.min(settleMs * 2 ** (restarts - FEW_RESTARTS), GREATEST_PATIENCE_MS)
    : 0
}

export function formatMemberFacts({ heartbeatTtlMs, maxOwnedStreams, weight }: MemberFacts): string {
  return `${maxOwnedStreams === Number.POSITIVE_INFINITY ? '-' : maxOwnedStreams} ${weight} ${heartbeatTtlMs}`
}

export function parseMember(text: string): Member {
  const match = /^(-|\d+) (\d+(?:\.\d+)?) (\d+)(?: (\d+))?/.exec(text)
  if (match === null) return UNKNOWN
  const [, limit, weight, ttl, restarts = '0'] = match as unknown as [string, string, string, string, string?]
  return {
    maxOwnedStreams: limit === '-' ? Number.POSITIVE_INFINITY : Number(limit),
    weight: Number(weight),
    heartbeatTtlMs: Number(ttl),
    restarts: Number(restarts),
  }
}
