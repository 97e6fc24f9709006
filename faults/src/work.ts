/** What a fleet is given to do, and what has become of it. */
import type { Redis } from 'ioredis'
import type { AcceptedCheckpoint } from './commit-watch.js'
import type { Violation } from './violation.js'

export interface Work {
  /** The compiled program of a process of the fleet, by its name in this folder. */
  readonly program: 'worker' | 'record-worker'
  /** Faults that mean nothing to this program. */
  readonly withoutFaults: readonly string[]
  /** How long a process may take to end after SIGTERM. */
  readonly endMs: number
  /** Adds something, unless too much is under way. */
  produce(): Promise<void>
  /** Adds something for a stream of its own whose first handler never returns. Answers the number that this handler says. */
  addHanging(streamNumber: number): Promise<number>
  /** Reads what has been done since; answers whether that is anything. */
  read(): Promise<boolean>
  /** How much has been done of each data stream: grows as long as somebody works on it. */
  progress(): ReadonlyMap<string, number>
  /** Data streams of which something that was added for sure is not done, each with what that is. */
  outstanding(): ReadonlyMap<string, readonly string[]>
  /** Faults are over: what goes on as long as they do comes to an end now. */
  conclude?(): Promise<void>
  /** Redis has lost writes that it had acknowledged: what is gone for good is not waited for any more. */
  noteLoss(): Promise<void>
  /** What Redis holds though nothing is left to do, beside what the client keeps there. */
  leftovers(): Promise<string[]>
  /** Called when nothing is outstanding: what the work has left in Redis is looked at from then on. */
  readResults(): Promise<void>
  /** What is wrong with what has been done, with the checkpoints that Redis accepted, in its order. */
  violations(accepted: readonly AcceptedCheckpoint[]): Promise<Violation[]>
  readonly counts: Readonly<Record<string, number>>
}

/** What a world tells its work. */
export interface WorkPlace {
  /** Leads to the server under test, whichever that is; a command that fails is not sent again. */
  readonly redis: Redis
  readonly service: string
  /** How often the connection was made. */
  readonly connects: () => number
  readonly isClosed: () => boolean
}
