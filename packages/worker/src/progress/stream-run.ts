/**
 * One owned stream on its way through the worker: what was read, handled and committed of it.
 *
 *   active ── a record failed ──> retrying ── delay over ──> active
 *   active ── exhausted, unreadable ──> halted ── resume ──> active
 *   active, retrying, halted ── done, idle, closing ──> ending ──> ended
 *   any ── ownership lost ──> ended
 *
 *   committed  ≤  position  ≤  first of the buffer  ≤  read position      (the first two: see StreamProgress)
 *
 * The handler is only ever called with the first of the buffer, which is the record after the position.
 */
import type { OwnedStream } from '@redis-stream-client/client'
import { type Fence, GREATEST_TIMER_MS } from '@redis-stream-client/client/internal'
import {
  type Attempt,
  comparePositions,
  type RawRecord,
  START,
  StreamRecord,
  type ValueReader,
} from '@redis-stream-client/handling'
import { type BatchFill, BatchGate } from '../reading/batch-gate.js'
import { type BufferUse, RecordBuffer } from '../reading/record-buffer.js'
import type { CheckpointWriter, Draft } from './checkpoint-writer.js'
import { type CommitFacts, StreamProgress } from './stream-progress.js'
import type { Finish, RecordFailure, WorkerCheckpoint } from './worker-checkpoint.js'

/** Why no record begins: until the end of this ownership, or for whoever owns the stream. */
export type Pause = 'local' | 'kept'

export type RunState = 'active' | 'retrying' | 'halted' | 'ending' | 'ended'

export interface RunContext {
  readonly bufferUse: BufferUse
  /** Records of one read; a stream with more than that in its buffer is not read. */
  readonly readCount: number
  /** Makes the values of records; null if those are their JSON. */
  readonly values: ValueReader | null
  /** A stream with so many bytes in its buffer is not read either. */
  readonly fullBytes: number
  /** How long records wait for a batch to fill; null if they do not. */
  readonly batchFill: BatchFill | null
  readonly nowMs: () => number
  /** As setTimeout, for the time before the next attempt; tests of handlers do not wait for it. */
  readonly startTimer?: ((act: () => void, delayMs: number) => NodeJS.Timeout | undefined) | undefined
  /** Called when the stream may be read (again). */
  readonly onHungry: (run: StreamRun) => void
  /** Called when there may be something to do. */
  readonly onReady: (run: StreamRun) => void
  /** Called when a commit was stored. */
  readonly onCommitted: (run: StreamRun, facts: CommitFacts) => void
}

/** Streams that wait for longer keep nothing in memory: there would be no room for the records of the others. */
const LONG_PAUSE_MS = 1000

export class StreamRun {
  readonly stream: OwnedStream
  readonly fence: Fence
  readonly progress: StreamProgress
  readonly writer: CheckpointWriter
  readonly buffer: RecordBuffer
  /** Resolves when the run has ended and no handler runs for it any more, except one that was abandoned. */
  readonly over: Promise<void>
  /** True while a turn is under way. */
  isBusy = false
  /** True while it waits for its turn. */
  isQueued = false
  attempt: Attempt<StreamRecord> | null = null
  /** Set when ownership is about to end by our own will. */
  isHandedBack = false
  /** No commit on time before this moment: one is under way, or was refused a moment ago. */
  commitNotBeforeMs = 0
  /** How often in a row Redis has refused to read the stream. */
  refusedReads = 0
  handled = 0
  lastActivityMs: number
  /** True while the checkpoint that was found is not a worker's: then nothing may be committed over it. */
  isForeign = false
  readonly #context: RunContext
  readonly #gate: BatchGate | null
  #state: RunState = 'active'
  #readPosition: string
  /** Records up to this one are handled one at a time, because a batch with them has failed. */
  #singlyThrough: string | null = null
  /** The first record has failed for good and has to go to the dead letters. */
  #isDoomed = false
  /** So many of the next records may have made an earlier owner crash: at most those up to the end that was seen first. */
  #suspects = 0
  #firstEnd: string | null = null
  #isPausedHere = false
  #retryTimer: NodeJS.Timeout | undefined
  /** While it is set, the stream is not read. */
  #readTimer: NodeJS.Timeout | undefined
  #resolveOver!: () => void
  #onIdle: (() => void)[] = []

  constructor(stream: OwnedStream, fence: Fence, writer: CheckpointWriter, context: RunContext) {
    this.stream = stream
    this.fence = fence
    this.writer = writer
    this.#context = context
    this.progress = new StreamProgress({
      nowMs: context.nowMs,
      onCommitted: (facts) => context.onCommitted(this, facts),
    })
    this.buffer = new RecordBuffer(context.bufferUse)
    this.#gate =
      context.batchFill && new BatchGate(context.batchFill, this.buffer, () => context.onReady(this))
    this.lastActivityMs = context.nowMs()
    this.#readPosition = this.progress.position
    this.over = new Promise((resolve) => {
      this.#resolveOver = resolve
    })
  }

  /** Goes on where the last owner has committed. That an earlier assignment was finished says nothing about this one. */
  restore(checkpoint: WorkerCheckpoint): void {
    const { failure, finished, position } = checkpoint
    const isOurs = finished?.idInLbs === this.stream.idInLbs
    this.progress.restore({ ...checkpoint, finished: isOurs ? finished : null })
    this.#readPosition = position
    // The last owner knew already which record of its batch was to blame.
    if (failure !== null && failure.attempts > 0) this.#singlyThrough = failure.id
  }

  get name(): string {
    return this.stream.dataStreamName
  }

  get state(): RunState {
    return this.#state
  }

  get position(): string {
    return this.progress.position
  }

  get readPosition(): string {
    return this.#readPosition
  }

  get committed(): string {
    return this.progress.committed
  }

  get failure(): RecordFailure | null {
    return this.progress.failure
  }

  /** True if nothing comes after the position: the handler or `isLast` has said so. */
  get isLastDone(): boolean {
    return this.progress.finished?.isCertain === true
  }

  /** Set while the stream is paused by hand. */
  get paused(): Pause | null {
    if (this.progress.isPaused) return 'kept'
    return this.#isPausedHere ? 'local' : null
  }

  get isRunnable(): boolean {
    if (this.#state !== 'active' || this.paused !== null || this.isLastDone) return false
    return this.buffer.length > 0 && !this.#isWaitingForBatch
  }

  /** A record that has failed, alone or in a batch, has waited already; what is not read on would wait for nothing. */
  get #isWaitingForBatch(): boolean {
    if (this.#gate === null || this.#gate.isOpen) return false
    return this.#singlyThrough === null && this.failure === null && this.isHungry
  }

  /** True if the stream should be read. */
  get isHungry(): boolean {
    if (this.#state !== 'active' || this.#readTimer !== undefined || this.paused !== null) return false
    return this.buffer.length <= this.#context.readCount && this.buffer.bytes < this.#context.fullBytes
  }

  get isEmpty(): boolean {
    return this.buffer.length === 0
  }

  /** True if nothing is to be done for the stream but to wait for its next record. */
  get isIdle(): boolean {
    const isWaiting = this.#readTimer !== undefined || this.paused !== null
    return this.#state === 'active' && !this.isBusy && this.isEmpty && !isWaiting
  }

  get isDoomed(): boolean {
    return this.#isDoomed
  }

  /** Takes what was read after `after`, unless that is not where reading goes on. */
  accept(after: string, raw: readonly RawRecord[]): void {
    const last = raw.at(-1)
    if (after !== this.#readPosition || last === undefined || this.paused !== null) return
    if (this.#state !== 'active' && this.#state !== 'retrying') return
    const values = this.#context.values ?? undefined
    for (const each of raw) this.buffer.push(new StreamRecord(this.name, each, values))
    this.#readPosition = last[0].toString()
    this.#gate?.added()
    this.refusedReads = 0
    this.lastActivityMs = this.#context.nowMs()
    this.#context.onReady(this)
  }

  /** The records the next call of the handler gets. */
  next(limit: number, bytes?: number): StreamRecord[] {
    const { first } = this.buffer
    const isSingle = this.#singlyThrough !== null || (first !== undefined && this.isSuspect(first))
    return this.buffer.peek(isSingle ? 1 : limit, bytes)
  }

  /**
   * Everything up to and including `position` is done with. That nothing comes after it (`isLast`) is committed with the
   * position: the next owner would wait for more records, and never find the last one again.
   */
  pass(position: string, records: number, isLast: boolean): void {
    this.progress.pass(position, records, this.#finish(isLast))
    this.#drop(position, records)
  }

  /** A script that is about to store `position` together with its effects; `isLast` as for `pass`. */
  draftThrough(position: string, records: number, isLast: boolean): Draft {
    const draft = this.progress.draftThrough(position, records, this.#finish(isLast))
    return afterwards(draft, () => this.#drop(position, records))
  }

  /** A script that is about to store that the stream halts here. */
  draftHalt(): Draft {
    return afterwards(this.progress.draftHalt(), () => this.halt())
  }

  /** So many records after the position may have made the last owner crash. */
  suspect(count: number): void {
    this.#suspects = count
  }

  /** The stream was looked at: what comes behind its first known end was not there before. */
  noteEnd(lastId: string | null): void {
    this.#firstEnd ??= lastId ?? START
  }

  /** True if a record may have made an earlier owner crash. */
  isSuspect({ id }: StreamRecord): boolean {
    const { failure } = this
    if (failure?.id === id && (failure.isTrying || failure.crashes > 0)) return true
    return this.#suspects > 0 && (this.#firstEnd === null || comparePositions(id, this.#firstEnd) <= 0)
  }

  /** A script that is about to store that a halted stream goes on with the record it was halted at. */
  draftResume(): Draft {
    return afterwards(this.progress.draftResume(), () => this.resume(false))
  }

  /** Notes a failure of the first record, to be committed before the next attempt. */
  fail(failure: RecordFailure, isFinal: boolean): void {
    this.progress.fail(failure)
    this.#isDoomed = isFinal
  }

  /** A batch has failed and nobody knows which of its records is to blame. */
  goSinglyThrough(position: string): void {
    this.#singlyThrough = position
  }

  /** The assignment is finished as far as its records go; a next owner only has to close it. */
  markFinished(isCertain: boolean): void {
    if (this.progress.finished?.isCertain === isCertain) return
    this.progress.finish({ idInLbs: this.stream.idInLbs, isCertain })
  }

  /** Commits the position, if it is not committed yet. Rejects as CheckpointWriter.save does. */
  async commit(): Promise<void> {
    if (this.progress.isDirty) await this.writer.save(() => this.progress.draft())
  }

  /** Lets some time pass before the stream goes on. What was read is read again after a long one. */
  pause(delayMs: number): void {
    if (this.#state !== 'active') return
    this.#state = 'retrying'
    if (delayMs >= LONG_PAUSE_MS) this.#forgetRead()
    const { startTimer = setTimeout } = this.#context
    this.#retryTimer = startTimer(() => {
      if (this.#state !== 'retrying') return
      this.#state = 'active'
      this.lastActivityMs = this.#context.nowMs()
      this.#context.onReady(this)
      if (this.isHungry) this.#context.onHungry(this)
    }, delayMs)
  }

  /** Waits until the next attempt at the record that has failed is due, as the last owner has promised. */
  pauseUntilDue(): void {
    if (this.failure === null) return
    const { dueAtMs, lastAtMs } = this.failure
    // The clock of the last owner may have been ahead of ours: never for longer than it wanted to wait.
    const delayMs = Math.min(dueAtMs - Date.now(), dueAtMs - lastAtMs, GREATEST_TIMER_MS)
    if (delayMs > 0) this.pause(delayMs)
  }

  /** Does not read for some time. What was read is worked on meanwhile. */
  putOffReading(delayMs: number): void {
    clearTimeout(this.#readTimer)
    this.#readTimer = setTimeout(() => {
      this.#readTimer = undefined
      this.lastActivityMs = this.#context.nowMs()
      if (this.isHungry) this.#context.onHungry(this)
    }, delayMs)
  }

  /** No record begins any more until `unhold`. What was read is dropped. `keeps`: under the next owner neither. */
  hold(keeps: boolean): void {
    if (keeps) this.progress.setPaused(true)
    else this.#isPausedHere = true
    if (this.#state === 'active' || this.#state === 'retrying') this.#forgetRead()
  }

  /** Records begin again, at once if one is due. */
  unhold(): void {
    this.#isPausedHere = false
    this.progress.setPaused(false)
    this.lastActivityMs = this.#context.nowMs()
    if (this.isHungry) this.#context.onHungry(this)
  }

  /** Nothing more happens until `resume`. What was read is dropped. The next owner finds out by itself. */
  halt(): void {
    if (this.#state === 'ending' || this.#state === 'ended') return
    this.#setState('halted')
    this.#isDoomed = false
    this.#forgetRead()
  }

  /** Goes on after a halt, with the record that failed or, if `skip`, after it. */
  resume(skip: boolean): void {
    const isOver = skip && this.failure?.isLast === true
    this.progress.resume(skip)
    if (isOver) this.markFinished(true)
    this.#readPosition = this.position
    this.#setState('active')
    this.lastActivityMs = this.#context.nowMs()
    this.#context.onHungry(this)
  }

  /** No record is begun any more. False if that was so already. */
  beginEnding(): boolean {
    if (this.#state === 'ending' || this.#state === 'ended') return false
    this.#setState('ending')
    this.#clearBuffer()
    return true
  }

  /** An ending that did not come about, because records came in between. */
  cancelEnding(): void {
    if (this.#state !== 'ending') return
    this.progress.finish(null)
    this.#readPosition = this.position
    this.lastActivityMs = this.#context.nowMs()
    this.#setState('active')
    this.#context.onHungry(this)
  }

  /** The worker has nothing to do with the stream any more. */
  end(): void {
    if (this.#state === 'ended') return
    this.#setState('ended')
    this.#clearBuffer()
    this.settle()
  }

  /** Called when a turn is over. */
  settle(): void {
    if (this.isBusy) return
    this.lastActivityMs = this.#context.nowMs()
    for (const listener of this.#onIdle.splice(0)) listener()
    if (this.#state === 'ended') this.#resolveOver()
  }

  /** Resolves when no turn is under way. */
  whenIdle(): Promise<void> {
    if (!this.isBusy) return Promise.resolve()
    return new Promise((resolve) => this.#onIdle.push(resolve))
  }

  #forgetRead(): void {
    this.#clearBuffer()
    this.#readPosition = this.position
  }

  #clearBuffer(): void {
    this.buffer.clear()
    this.#gate?.taken()
  }

  #setState(state: RunState): void {
    clearTimeout(this.#retryTimer)
    clearTimeout(this.#readTimer)
    this.#readTimer = undefined
    this.#state = state
  }

  #finish(isLast: boolean): Finish | null {
    return isLast ? { idInLbs: this.stream.idInLbs, isCertain: true } : null
  }

  /** Takes what is done with out of memory. */
  #drop(position: string, records: number): void {
    const wasHungry = this.isHungry
    this.stream.touch()
    this.handled += records
    this.#suspects = Math.max(0, this.#suspects - records)
    // What was read may have been forgotten while the handler was still busy with it.
    if (comparePositions(this.#readPosition, position) < 0) this.#readPosition = position
    this.#isDoomed = false
    if (this.#singlyThrough !== null && comparePositions(this.#singlyThrough, position) <= 0) {
      this.#singlyThrough = null
    }
    this.buffer.dropThrough(position)
    this.#gate?.taken()
    if (!wasHungry && this.isHungry) this.#context.onHungry(this)
  }
}

/** The same draft, with something to be done when it is stored. */
function afterwards({ checkpoint, stored }: Draft, act: () => void): Draft {
  return {
    checkpoint,
    stored: () => {
      stored()
      act()
    },
  }
}
