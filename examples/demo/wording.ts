/** Numbers and happenings in words, the same in every picture. */
import { countOne, type Fault, type FaultKind, medianAndWorst, type Standing } from './scoreboard.js'
import type { Sharing } from './sharing.js'

const SIGNALS: Record<FaultKind, string> = { killed: 'SIGKILL', stopped: 'SIGSTOP' }

export function formatCount(count: number): string {
  return count.toLocaleString('en-US')
}

export function formatSeconds(ms: number, digits = 2): string {
  return `${(ms / 1000).toFixed(digits)} s`
}

export function describeState(state: Standing['state']): string {
  return state === 'held' ? 'at work' : state
}

export function describeFault({ consumer, kind, airports }: Fault): string {
  return `${consumer} ${kind} with ${SIGNALS[kind]}; it owned ${airports.size} streams`
}

/** `59 of 59 streams taken over: p50 2.14 s, worst 2.31 s` */
export function describeTakeovers({ airports, takeovers }: Fault): string {
  const times = medianAndWorst([...takeovers.values()].map(({ afterMs }) => afterMs))
  const count = `${takeovers.size} of ${airports.size} streams taken over`
  if (times === null) return count
  return `${count}: p50 ${formatSeconds(times.medianMs)}, worst ${formatSeconds(times.worstMs)}`
}

/** `consumer-2 took 30, consumer-3 took 29` */
export function describeTakers({ takeovers }: Fault): string {
  const counts = new Map<string, number>()
  for (const { by } of takeovers.values()) countOne(counts, by)
  return [...counts].map(([by, count]) => `${by} took ${count}`).join(', ')
}

/** `112 streams moved, each without an owner: p50 0.02 s, worst 0.06 s; even after 6.41 s` */
export function describeSharing({ evenAfterMs, moves, ownerlessMs }: Sharing): string {
  const times = medianAndWorst(ownerlessMs)
  if (moves === 0 || times === null) return 'no stream has moved'
  const gaps = `without an owner p50 ${formatSeconds(times.medianMs)}, worst ${formatSeconds(times.worstMs)}`
  const even = evenAfterMs === null ? '' : `; even after ${formatSeconds(evenAfterMs, 1)}`
  return `${moves} streams moved: ${gaps}${even}`
}

/** `consumer-2 owns 57, consumer-3 owns 58` */
export function describeShares(standings: ReadonlyMap<string, Standing>): string {
  const working = [...standings].filter(([, { state }]) => state === 'held')
  return working.map(([name, { airports }]) => `${name} owns ${airports.size}`).join(', ')
}

/** `SESSION_LOST 4 times` */
export function describeCounts(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([what, count]) => `${what} ${count} times`).join(', ')
}
