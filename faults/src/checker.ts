/**
 * Decides what must hold, from what the workers believed and what Redis accepted.
 *
 * 1. No two workers trusted themselves to own one stream at the same moment.
 * 2. Fences grow: nobody began to trust under a fence lower than one that somebody trusted before, none was given twice.
 * 3. A checkpoint is of the job it is given with, and not older than what an earlier owner was told is kept.
 * 4. Nothing was rejected with nobody listening, and no process grew without bound.
 *
 * What is checked of jobs and of records is in jobs.ts and record-checker.ts. That nothing is lost, that streams are owned
 * again in time and that processes end is checked while the fleet runs (see run.ts).
 * Where Redis itself lost acknowledged writes, 1 may be broken for one TTL after that, and 3 is not asked unless owners
 * waited for a replica; 2 holds.
 */
import type { WorkerHistory } from './history.js'
import { type Violation, violation } from './violation.js'

export interface Evidence {
  readonly histories: readonly WorkerHistory[]
  /** When Redis lost writes (monotonic). */
  readonly lossesAtMs: readonly number[]
  /** What owners were told is kept was kept, by Redis or by the replica they waited for. */
  readonly keepsAcknowledged: boolean
  readonly heartbeatTtlMs: number
}

/** A time in which a worker trusted itself to own a stream, as far as it is certain. */
interface Tenure {
  readonly worker: string
  readonly stream: string
  readonly fence: number
  readonly fromMs: number
  untilMs: number
}

const GREATEST_RSS_BYTES = 400 * 1024 * 1024
/** After a loss: one TTL, and the restart it came with. */
const LOSS_GRACE_MS = 1500

export function findViolations(evidence: Evidence): Violation[] {
  const tenures = evidence.histories.flatMap(tenuresOf)
  return [
    ...findOverlaps(tenures, evidence),
    ...findFallingFences(tenures),
    ...evidence.histories.flatMap(findOddEvents),
    ...(evidence.keepsAcknowledged ? findOddCheckpoints(evidence.histories) : []),
  ]
}

/** `owned` never becomes true again: from the first to the last time it was seen true it was true throughout. */
function tenuresOf({ worker, events }: WorkerHistory): Tenure[] {
  const all: Tenure[] = []
  const tenures = new Map<string, Tenure>()
  for (const event of events) {
    if (event.type === 'given' && event.isTrusted) {
      const { stream, fence, at } = event
      const tenure = { worker, stream, fence, fromMs: at, untilMs: at }
      tenures.set(`${fence} ${stream}`, tenure)
      all.push(tenure)
    } else if (event.type === 'trusted') {
      for (const [stream, fence] of event.holdings) {
        const tenure = tenures.get(`${fence} ${stream}`)
        if (tenure !== undefined) tenure.untilMs = Math.max(tenure.untilMs, event.at)
      }
    }
  }
  return all
}

function byStream(tenures: readonly Tenure[]): Tenure[][] {
  const groups = new Map<string, Tenure[]>()
  for (const tenure of tenures) {
    const group = groups.get(tenure.stream)
    if (group === undefined) groups.set(tenure.stream, [tenure])
    else group.push(tenure)
  }
  return [...groups.values()].map((group) => group.sort((a, b) => a.fromMs - b.fromMs))
}

function findOverlaps(tenures: readonly Tenure[], { heartbeatTtlMs, lossesAtMs }: Evidence): Violation[] {
  const violations: Violation[] = []
  for (const group of byStream(tenures)) {
    let latest: Tenure | undefined
    for (const tenure of group) {
      if (latest !== undefined && tenure.fromMs < latest.untilMs) {
        const untilMs = Math.min(tenure.untilMs, latest.untilMs)
        const graceMs = heartbeatTtlMs + LOSS_GRACE_MS
        const isExcused = lossesAtMs.some(
          (atMs) => latest && latest.fromMs < atMs + graceMs && untilMs < atMs + graceMs,
        )
        if (!isExcused) {
          const ms = (untilMs - tenure.fromMs).toFixed(1)
          const both = `${tenure.stream} for ${ms} ms: ${show(latest)} and ${show(tenure)}`
          violations.push(violation('two owners', both))
        }
      }
      if (latest === undefined || tenure.untilMs > latest.untilMs) latest = tenure
    }
  }
  return violations
}

function findFallingFences(tenures: readonly Tenure[]): Violation[] {
  const violations: Violation[] = []
  for (const group of byStream(tenures)) {
    for (const [index, tenure] of group.entries()) {
      const before = group[index - 1]
      if (before !== undefined && tenure.fence <= before.fence) {
        const both = `${tenure.stream}: ${show(before)}, then ${show(tenure)}`
        violations.push(violation('fence not grown', both))
      }
    }
  }
  return violations
}

function findOddEvents({ worker, events }: WorkerHistory): Violation[] {
  const violations: Violation[] = []
  for (const event of events) {
    if (event.type === 'unhandled') violations.push(violation('unhandled', `${worker}: ${event.error}`))
    if (event.type === 'memory' && event.rssBytes > GREATEST_RSS_BYTES) {
      const text = `${worker} grew to ${Math.round(event.rssBytes / 1024 / 1024)} MiB`
      violations.push(violation('grown', text))
      break
    }
  }
  return violations
}

function findOddCheckpoints(histories: readonly WorkerHistory[]): Violation[] {
  const violations: Violation[] = []
  const acknowledged = new Map<string, { readonly fence: number; readonly checkpoint: number }[]>()
  for (const event of histories.flatMap(({ events }) => events)) {
    if (event.type !== 'committed') continue
    const commits = acknowledged.get(event.id)
    if (commits === undefined) acknowledged.set(event.id, [event])
    else commits.push(event)
  }
  for (const { worker, events } of histories) {
    for (const event of events) {
      if (event.type !== 'given') continue
      const { checkpoint, checkpointOf, fence, id, job, stream } = event
      if (checkpointOf !== null && checkpointOf !== job) {
        const text = `${worker} was given job ${job} of ${stream} with the checkpoint of ${checkpointOf}`
        violations.push(violation('wrong checkpoint', text))
      }
      const newest = acknowledged
        .get(id)
        ?.filter((commit) => commit.fence < fence)
        .reduce((greatest, commit) => Math.max(greatest, commit.checkpoint), -1)
      if (newest !== undefined && newest > (checkpoint ?? -1)) {
        const text = `${worker} was given job ${job} of ${stream} at ${checkpoint} after ${newest} was acknowledged`
        violations.push(violation('wrong checkpoint', text))
      }
    }
  }
  return violations
}

function show({ worker, fence, fromMs, untilMs }: Tenure): string {
  return `${worker} (fence ${fence}, ${fromMs.toFixed(1)} to ${untilMs.toFixed(1)})`
}
