/**
 * Takes data streams for a session: entries this session has read (`acquire`), entries of others (`claim`).
 * The decision is take.lua's; this sends it, enters what was taken, and keeps one bad entry from holding up the rest.
 */
import { StreamClientError } from '@redis-stream-client/notifs'
import { batchLength } from '../decisions/batches.js'
import type { Clock } from '../decisions/clock.js'
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder, TakeOutcome } from '../metrics.js'
import type { ReadableEntry } from '../redis/lbs.js'
import { messageOf } from '../redis/redis-errors.js'
import { BATCH_LIMIT, type ServiceScripts } from '../redis/service-scripts.js'
import type { TakeAnswer, TakeMode, TakeRules, Tenure } from '../redis/stream-scripts.js'
import { endLost, type Retries, sessionLost } from '../session/retries.js'
import type { Session } from '../session/session.js'
import type { DeadLetters } from './dead-letters.js'
import type { Ownership } from './ownership.js'
import type { RefusedEntries } from './refused-entries.js'
import { type StreamFacts, StreamHandle, type StreamOperations } from './stream-handle.js'

interface UnderWay {
  calls: number
  /** Greatest fence known before the first of these calls. */
  readonly knownFence: number
}

/** What became of one entry that was to be taken. `isNew` is false if the client owned the stream already. */
export type Taken =
  | { readonly outcome: 'taken'; readonly stream: StreamHandle; readonly isNew: boolean }
  /** Redis has refused to take it, for now. */
  | { readonly outcome: 'failed'; readonly error: StreamClientError }
  | { readonly outcome: Exclude<TakeOutcome, 'taken' | 'failed'> }

export interface StreamTakerContext {
  readonly session: Session
  /** Aborts when the client closes: from then on nothing is taken. */
  readonly closing: AbortSignal
  readonly refusedEntries: RefusedEntries
  readonly scripts: ServiceScripts
  readonly retries: Retries
  readonly ownership: Ownership
  readonly operations: StreamOperations
  readonly deadLetters: DeadLetters
  readonly maxCrashes: number
  readonly crashWindowMs: number
  readonly lbsIdleTimeMs: number
  readonly clock: Clock
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
}

export class StreamTaker {
  readonly #context: StreamTakerContext
  readonly #underWay = new Map<string, UnderWay>()
  readonly #calls = new Set<Promise<unknown>>()
  /** Of all that were answered. */
  #greatestFence = 0

  constructor(context: StreamTakerContext) {
    this.#context = context
  }

  /** True while an entry is being taken: nobody else in this client should look after it. */
  isUnderWay(idInLbs: string): boolean {
    return this.#underWay.has(idInLbs)
  }

  /**
   * Takes entries in their order; answers what became of each. Rejects with SESSION_LOST when the session ends
   * first, with CLOSED when the client closes, with REDIS_ERROR when Redis refuses for a reason that is not an entry's.
   */
  async take(entries: readonly ReadableEntry[], mode: TakeMode): Promise<Taken[]> {
    return await this.#track(() => this.#take(entries, mode, true))
  }

  /**
   * Takes entries for which there is no room any more and gives their streams back at once, so that other clients have
   * them. Never rejects: an entry that could not be passed on stays pending, and the reconciler finds it.
   */
  async passOn(entries: readonly ReadableEntry[]): Promise<void> {
    try {
      await this.#track(() => this.#passOn(entries))
    } catch (error) {
      this.#context.logger.debug({ entries: entries.length, error: messageOf(error) }, 'not passed on')
    }
  }

  /** Resolves when nothing is being taken. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#calls)
  }

  async #track<T>(act: () => Promise<T>): Promise<T> {
    this.#refuseIfClosing()
    const call = act()
    this.#calls.add(call)
    try {
      return await call
    } finally {
      this.#calls.delete(call)
    }
  }

  async #passOn(entries: readonly ReadableEntry[]): Promise<void> {
    await this.#whileUnderWay(entries, async () => {
      const streams = newStreams(await this.#take(entries, 'acquire', false))
      for (const stream of streams) stream.markPassedOn()
      await Promise.all(streams.map((stream) => stream.release()))
    })
  }

  async #take(entries: readonly ReadableEntry[], mode: TakeMode, isKept: boolean): Promise<Taken[]> {
    return await this.#whileUnderWay(entries, async () => {
      const taken: Taken[] = []
      while (taken.length < entries.length) {
        const rest = entries.slice(taken.length, taken.length + BATCH_LIMIT)
        const batch = rest.slice(0, batchLength(rest, BATCH_LIMIT, bytesOfName))
        taken.push(...(await this.#takeBatch(batch, mode, isKept)))
      }
      return taken
    })
  }

  async #whileUnderWay<T>(entries: readonly ReadableEntry[], act: () => Promise<T>): Promise<T> {
    for (const entry of entries) {
      const underWay = this.#underWay.get(entry.id)
      if (underWay !== undefined) underWay.calls++
      else this.#underWay.set(entry.id, { calls: 1, knownFence: this.#fenceBefore(entry) })
    }
    try {
      return await act()
    } finally {
      for (const { id } of entries) {
        const underWay = this.#underWay.get(id)
        if (underWay !== undefined && --underWay.calls === 0) this.#underWay.delete(id)
      }
    }
  }

  /** What this call takes, or has taken when its answer is lost, has a greater fence; so has what is owned already. */
  #fenceBefore({ id, message }: ReadableEntry): number {
    const owned = this.#context.ownership.streams.get(message.dataStreamName)
    return owned?.idInLbs === id ? owned.fencingToken - 1 : this.#greatestFence
  }

  /**
   * Takes at most a batch; answers what became of the first of them, at least of one: the script leaves the rest to the
   * next call where entries are large. What is not kept is taken without being entered among the owned streams: it is
   * about to be released.
   */
  async #takeBatch(entries: readonly ReadableEntry[], mode: TakeMode, isKept: boolean): Promise<Taken[]> {
    const { clock, recorder, retries, scripts, session } = this.#context
    const rules = this.#rules(mode)
    const assignments = entries.map(({ id, message }) => {
      const knownFence = this.#underWay.get(id)?.knownFence ?? 0
      return { id, dataStreamName: message.dataStreamName, knownFence }
    })
    const startMs = clock.now().monotonicMs
    let answers: 'SESSION_LOST' | TakeAnswer[]
    try {
      answers = await retries.send('take streams', session, () => {
        this.#refuseIfClosing()
        return scripts.take(session, assignments, rules)
      })
    } catch (error) {
      if (!(error instanceof StreamClientError) || error.code !== 'REDIS_ERROR') throw error
      return await this.#takeOneByOne(entries, mode, isKept, error)
    }
    if (answers === 'SESSION_LOST') throw endLost('take streams', session)
    const taken = answers.map((answer, index) => this.#enter(entries[index] as ReadableEntry, answer, isKept))
    await this.#freeGone(entries, answers)
    const durationMs = clock.now().monotonicMs - startMs
    const count = taken.filter((each) => each.outcome === 'taken').length
    recorder.lockAcquisition({ mode, entries: taken.length, taken: count, durationMs })
    return taken
  }

  /**
   * Redis refuses a batch: each entry is sent alone, so that one that is refused does not hold up the others. Rejects
   * with REDIS_ERROR where no entry is to blame; then all that are left stay pending.
   */
  async #takeOneByOne(
    entries: readonly ReadableEntry[],
    mode: TakeMode,
    isKept: boolean,
    error: StreamClientError,
  ): Promise<Taken[]> {
    const [first] = entries
    if (first !== undefined && entries.length === 1) return [await this.#judge(first, error)]
    const taken: Taken[] = []
    for (const entry of entries) taken.push(...(await this.#takeBatch([entry], mode, isKept)))
    return taken
  }

  async #judge(entry: ReadableEntry, error: StreamClientError): Promise<Taken> {
    const { refusedEntries, retries, scripts, session } = this.#context
    return await refusedEntries.judge(session, entry, error, async () => {
      // Of no entries at all: rejects where Redis refuses whatever is to be taken.
      await retries.send('take nothing', session, () => scripts.take(session, [], this.#rules('acquire')))
    })
  }

  #rules(mode: TakeMode): TakeRules {
    const { crashWindowMs, lbsIdleTimeMs, maxCrashes, session } = this.#context
    return { mode, maxCrashes, crashWindowMs, lbsIdleTimeMs, formerTokens: session.formerTokens }
  }

  /** Frees streams whose entry has left the LBS. Their owner has been told first, so two owners cannot overlap. */
  async free(tenures: readonly Tenure[]): Promise<void> {
    const { retries, scripts, session } = this.#context
    if (tenures.length === 0) return
    await retries.send('free streams whose entries are gone', session, () =>
      scripts.finish(
        session,
        tenures.map(({ dataStreamName, fencingToken, idInLbs }) => {
          return { dataStreamName, fencingToken, idInLbs, keepCheckpoint: false }
        }),
      ),
    )
  }

  /** Streams with a call under way are left to the reconciler. */
  async #freeGone(entries: readonly ReadableEntry[], answers: readonly TakeAnswer[]): Promise<void> {
    const { ownership } = this.#context
    const gone = entries.flatMap(({ id, message: { dataStreamName } }, index): Tenure[] => {
      const answer = answers[index]
      if (answer?.status !== 'GONE' || answer.fencingToken === undefined) return []
      if (ownership.streams.get(dataStreamName)?.idInLbs === id) return []
      return [{ idInLbs: id, dataStreamName, fencingToken: answer.fencingToken }]
    })
    await this.free(gone)
  }

  #enter(entry: ReadableEntry, answer: TakeAnswer, isKept: boolean): Taken {
    const { ownership } = this.#context
    const { dataStreamName } = entry.message
    const known = ownership.streams.get(dataStreamName)
    this.#context.refusedEntries.forget(entry.id)
    switch (answer.status) {
      case 'TAKEN':
        this.#greatestFence = Math.max(this.#greatestFence, answer.fencingToken)
        if (known?.idInLbs === entry.id && known.fencingToken === answer.fencingToken) {
          return { outcome: 'taken', stream: known, isNew: false }
        }
        return { outcome: 'taken', stream: this.#addStream(entry, answer, isKept), isNew: true }
      case 'GONE':
        if (known?.idInLbs === entry.id && !known.isBusy) ownership.disown(known, 'entry-gone')
        return { outcome: 'gone' }
      case 'DEAD':
        this.#context.deadLetters.report({
          idInLbs: entry.id,
          dataStreamName,
          reason: answer.reason,
          error: answer.error,
        })
        return { outcome: 'dead-lettered' }
      case 'CLAIMED':
        return { outcome: 'already-claimed' }
      case 'QUEUED':
        return { outcome: 'queued' }
      case 'LEFT':
        return { outcome: 'left' }
      default:
        return answer satisfies never
    }
  }

  #addStream(
    { id, message }: ReadableEntry,
    answer: Extract<TakeAnswer, { status: 'TAKEN' }>,
    isKept: boolean,
  ): StreamHandle {
    const { clock, operations, ownership, recorder, session } = this.#context
    const facts: StreamFacts = {
      dataStreamName: message.dataStreamName,
      idInLbs: id,
      message,
      fencingToken: answer.fencingToken,
      checkpoint: answer.checkpoint,
      recovered: answer.recovered,
      ownerFell: answer.ownerFell,
      commits: answer.commits,
      takenAtMs: clock.now().monotonicMs,
    }
    const stream = new StreamHandle(facts, session, operations)
    if (!session.isHeld()) throw sessionLost('take streams', session)
    if (isKept) ownership.add(stream)
    else recorder.streamStarted({ recovered: stream.recovered })
    return stream
  }

  #refuseIfClosing(): void {
    if (this.#context.closing.aborted)
      throw new StreamClientError('CLOSED', 'the client is closing: it takes no more streams')
  }
}

function bytesOfName({ message }: ReadableEntry): number {
  return Buffer.byteLength(message.dataStreamName)
}

/** The streams that were not owned before. */
export function newStreams(taken: readonly Taken[]): StreamHandle[] {
  return taken.flatMap((each) => (each.outcome === 'taken' && each.isNew ? [each.stream] : []))
}
