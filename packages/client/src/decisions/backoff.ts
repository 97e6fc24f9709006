/** Waiting longer after every failure, up to a cap, with jitter so that a fleet does not come back in step. */

/** Milliseconds to wait after failure number `attempt` (0 is the first): between half and all of the capped doubling. */
export function backoffMs(
  attempt: number,
  initialMs: number,
  maxMs: number,
  chance: number = Math.random(),
): number {
  const doubled = Math.min(initialMs * 2 ** Math.min(attempt, 40), maxMs)
  return doubled / 2 + (doubled / 2) * chance
}
