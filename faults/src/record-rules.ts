/** What becomes of which record, known to the handler and to the checker alike. */
import type { WorkerOptions } from '@redis-stream-client/worker'

export const COMMIT_EVERY = 5
const IDLE_MS = 3000
const DRAIN_MS = 500
const ABANDON_AFTER_MS = 200
/** What the client underneath may take to hand over. */
const HAND_OVER_MS = 5000
/** How long a worker may take to close. */
export const CLOSE_MS: number = DRAIN_MS + ABANDON_AFTER_MS + HAND_OVER_MS

/** Beside handler and connection. */
export const WORKER_OPTIONS: Partial<WorkerOptions> = {
  commitEvery: COMMIT_EVERY,
  commitIntervalMs: 2000,
  idleMs: IDLE_MS,
  onDone: 'delete',
  drainMs: DRAIN_MS,
  abandonAfterMs: ABANDON_AFTER_MS,
  // What Redis refuses for a while must not exhaust them.
  retry: { attempts: 1000, initialDelayMs: 20, maxDelayMs: 200 },
  maxOwnedStreams: 6,
}

const FAILS_EVERY = 13
const DOOMED_EVERY = 23
const EFFECTS = 'effects'

export type Fate = 'is handled' | 'fails' | 'is doomed'

/** Some records fail at their first attempt, some for good. */
export function fateOf(n: number, attempt: number): Fate {
  if (n % DOOMED_EVERY === 0) return 'is doomed'
  return n % FAILS_EVERY === 0 && attempt === 1 ? 'fails' : 'is handled'
}

/** A data stream whose records are handled in transactions, or one whose handler only tells the ledger. */
export function streamName(number: number): string {
  return `${number % 2 === 0 ? EFFECTS : 'plain'}-${number}`
}

export function hasEffects(dataStreamName: string): boolean {
  return dataStreamName.startsWith(EFFECTS)
}

/** Where the transactions of a data stream leave their effects: a list in the Redis under test. */
export function effectsKey(dataStreamName: string): string {
  return `list:${dataStreamName}`
}
