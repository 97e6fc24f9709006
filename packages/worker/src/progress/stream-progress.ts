/**
 * How far the records of a stream are done with, and how much of that is in Redis:
 *
 *   committed  ≤  position
 *
 * `position` is the last record that is done with, in order and without a gap. With it goes what the next owner has
 * to know: how the record after it has failed so far, whether the stream is halted or finished.
 */
import type { Draft } from './checkpoint-writer.js'
import { type Finish, FRESH, type RecordFailure, type WorkerCheckpoint } from './worker-checkpoint.js'

export interface ProgressContext {
  readonly nowMs: () => number
  /** Called when a commit was stored. */
  readonly onCommitted: (facts: CommitFacts) => void
}

export interface CommitFacts {
  readonly records: number
  /** How long the oldest of them had been done with. */
  readonly ageMs: number
  readonly durationMs: number
}

export class StreamProgress {
  readonly #context: ProgressContext
  #position: string = FRESH.position
  #accounted: number | null = FRESH.accounted
  #failure: RecordFailure | null = null
  #isHalted = false
  #isPaused = false
  #unexplainedCrashes = 0
  /** The record of which Redis says that it is being tried. */
  #tryingInRedis: string | null = null
  #finished: Finish | null = null
  #committed: string = FRESH.position
  #uncommitted = 0
  /** Grows with everything that is to be committed. */
  #changes = 0
  #dirtySinceMs: number | null = null

  constructor(context: ProgressContext) {
    this.#context = context
  }

  /** Goes on where the last owner has committed. */
  restore(checkpoint: WorkerCheckpoint): void {
    const { accounted, failure, finished, isHalted, isPaused, position } = checkpoint
    this.#position = position
    this.#accounted = accounted
    this.#failure = failure
    this.#isHalted = isHalted
    this.#isPaused = isPaused
    this.#unexplainedCrashes = checkpoint.unexplainedCrashes
    this.#tryingInRedis = tryingIn(checkpoint)
    this.#finished = finished
    this.#committed = position
  }

  get position(): string {
    return this.#position
  }

  /** Records that were handled, or are known to be lost, under this owner and those before. Null if that is not known. */
  get accounted(): number | null {
    return this.#accounted
  }

  get committed(): string {
    return this.#committed
  }

  /** Records that are done with and would come again after a crash. */
  get uncommitted(): number {
    return this.#uncommitted
  }

  get failure(): RecordFailure | null {
    return this.#failure
  }

  get finished(): Finish | null {
    return this.#finished
  }

  /** True if no record is to begin, under this owner or the next, until that is taken back. */
  get isPaused(): boolean {
    return this.#isPaused
  }

  /** Crashes of owners since about here of which it is not known which record they handled. */
  get unexplainedCrashes(): number {
    return this.#unexplainedCrashes
  }

  set unexplainedCrashes(crashes: number) {
    if (crashes === this.#unexplainedCrashes) return
    this.#unexplainedCrashes = crashes
    this.#touch()
  }

  /** The record that would be blamed for a crash now; null if none would. */
  get tryingInRedis(): string | null {
    return this.#tryingInRedis
  }

  get checkpoint(): WorkerCheckpoint {
    return {
      position: this.#position,
      accounted: this.#accounted,
      failure: this.#failure,
      isHalted: this.#isHalted,
      isPaused: this.#isPaused && this.#finished === null, // a later assignment begins anew
      unexplainedCrashes: this.#unexplainedCrashes,
      finished: this.#finished,
    }
  }

  /** True if something is to be committed. */
  get isDirty(): boolean {
    return this.#dirtySinceMs !== null
  }

  /** How long something has been waiting to be committed; 0 if nothing does. */
  dirtyForMs(nowMs: number): number {
    return this.#dirtySinceMs === null ? 0 : nowMs - this.#dirtySinceMs
  }

  /** Everything up to and including `position` is done with; `finished`: and nothing comes after it. */
  pass(position: string, records: number, finished: Finish | null): void {
    this.#move(position, records, finished)
    this.#touch()
  }

  /** What a look at the stream has shown: so many records are done with or lost. Null if Redis does not count them. */
  account(records: number | null): void {
    this.#accounted = records
    if (records !== null) this.#touch()
  }

  /** How the record after the position has failed. */
  fail(failure: RecordFailure): void {
    this.#failure = failure
    this.#touch()
  }

  /** The assignment is finished as far as its records go, or, with null, is not after all. */
  finish(finished: Finish | null): void {
    this.#finished = finished
    this.#touch()
  }

  /** What `isPaused` says. */
  setPaused(isPaused: boolean): void {
    if (isPaused === this.#isPaused) return
    this.#isPaused = isPaused
    this.#touch()
  }

  /** No halt any more: goes on with the record that failed or, if `skip`, after it. */
  resume(skip: boolean): void {
    if (skip && this.#failure !== null) {
      this.#position = this.#failure.id
      this.#accounted = plus(this.#accounted, 1)
    }
    this.#failure = null
    this.#isHalted = false
    this.#touch()
  }

  /** What a commit is to store; null if it would change nothing. */
  draft(): Draft | null {
    if (!this.isDirty) return null
    const { checkpoint } = this
    const startedAtMs = this.#context.nowMs()
    const records = this.#uncommitted
    const changes = this.#changes
    return {
      checkpoint,
      stored: () => {
        this.#stored(checkpoint, records, startedAtMs)
        this.#dirtySinceMs = this.#changes === changes ? null : startedAtMs
      },
    }
  }

  /** What a script is to store that passes `records` more, up to `position`; `finished` as for `pass`. */
  draftThrough(position: string, records: number, finished: Finish | null): Draft {
    const startedAtMs = this.#context.nowMs()
    const changes = this.#changes
    const checkpoint: WorkerCheckpoint = {
      ...this.checkpoint,
      position,
      accounted: plus(this.#accounted, records),
      failure: null,
      isPaused: this.#isPaused && finished === null && this.#finished === null,
      finished: finished ?? this.#finished,
    }
    return {
      checkpoint,
      stored: () => {
        this.#move(position, records, finished)
        this.#stored(checkpoint, this.#uncommitted, startedAtMs)
        this.#dirtySinceMs = this.#changes === changes ? null : startedAtMs
      },
    }
  }

  /** What a script is to store that halts the stream here, for the next owner too. */
  draftHalt(): Draft {
    const startedAtMs = this.#context.nowMs()
    const checkpoint = { ...this.checkpoint, isHalted: true }
    return {
      checkpoint,
      stored: () => {
        this.#isHalted = true
        this.#stored(checkpoint, this.#uncommitted, startedAtMs)
        this.#dirtySinceMs = null
      },
    }
  }

  /** What a script is to store that ends a halt: the record after the position gets all its attempts again. */
  draftResume(): Draft {
    const startedAtMs = this.#context.nowMs()
    const checkpoint = { ...this.checkpoint, isHalted: false, failure: null }
    return { checkpoint, stored: () => this.#stored(checkpoint, this.#uncommitted, startedAtMs) }
  }

  #move(position: string, records: number, finished: Finish | null): void {
    this.#position = position
    this.#failure = null
    this.#finished = finished ?? this.#finished
    this.#accounted = plus(this.#accounted, records)
    this.#uncommitted += records
  }

  #touch(): void {
    this.#changes++
    this.#dirtySinceMs ??= this.#context.nowMs()
  }

  /** A checkpoint is in Redis, with so many records that were done with and not committed before. */
  #stored(checkpoint: WorkerCheckpoint, records: number, startedAtMs: number): void {
    const nowMs = this.#context.nowMs()
    this.#committed = checkpoint.position
    this.#tryingInRedis = tryingIn(checkpoint)
    this.#uncommitted -= records
    this.#context.onCommitted({
      records,
      ageMs: nowMs - (this.#dirtySinceMs ?? startedAtMs),
      durationMs: nowMs - startedAtMs,
    })
  }
}

function plus(known: number | null, records: number): number | null {
  return known === null ? null : known + records
}

function tryingIn({ failure }: WorkerCheckpoint): string | null {
  return failure?.isTrying === true ? failure.id : null
}
