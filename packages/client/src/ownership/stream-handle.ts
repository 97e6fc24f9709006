/** An owned data stream in the application's hands: its facts, its calls, and the order in which they are sent. */
import {
  type DisownReason,
  type JsonObject,
  type OwnedStream,
  StreamClientError,
} from '@redis-stream-client/notifs'
import { type AssignedMessage, additionalInfoOf } from '../redis/assigned-message.js'
import type { Tenure } from '../redis/stream-scripts.js'
import type { Session } from '../session/session.js'

const GREATEST_CHECKPOINT_BYTES = 64 * 1024

/** What carries out the calls. They arrive one after the other for each stream. */
export interface StreamOperations {
  commit(stream: StreamHandle, checkpoint: string): Promise<void>
  finish(stream: StreamHandle, keepCheckpoint: boolean): Promise<void>
  release(stream: StreamHandle): Promise<void>
}

export interface StreamFacts extends Tenure {
  /** What the entry says; its Info may be read only when somebody looks at it. */
  readonly message: AssignedMessage
  readonly checkpoint: string | null
  readonly recovered: boolean
  /** The last owner crashed or hung. */
  readonly ownerFell?: boolean
  readonly commits: number
  readonly takenAtMs: number
}

/**
 * How ownership ended: by its owner's own call (a second call of the same kind then resolves too), or without it.
 * Kept instead of an error, which is made when somebody asks: most streams end without anybody asking.
 */
export type OwnershipEnd = 'done' | 'release' | DisownReason

/** Frozen, because the application holds it; all state that changes is in private fields. */
export class StreamHandle implements OwnedStream, Tenure {
  readonly dataStreamName: string
  readonly idInLbs: string
  readonly fencingToken: number
  readonly checkpoint: string | null
  readonly recovered: boolean
  readonly #ownerFell: boolean
  readonly #message: AssignedMessage
  readonly #takenAtMs: number
  readonly #session: Session
  readonly #operations: StreamOperations
  #commits: number
  #isAnnounced = false
  #isPassedOn = false
  #isMoved = false
  /** When it was taken, committed or touched last; monotonic. */
  #progressAtMs: number
  #controller: AbortController | undefined
  #stopReason: StreamClientError | undefined
  #ended: OwnershipEnd | undefined
  /** Settles, never rejecting, when the last call so far has settled. */
  #tail: Promise<void> | undefined
  /** Calls of `done` and `release` that have not settled. */
  #leaving = 0
  /** While one of them is being sent: Redis may have let somebody else have the stream before the answer is here. */
  #isLettingGo = false

  constructor(facts: StreamFacts, session: Session, operations: StreamOperations) {
    this.dataStreamName = facts.dataStreamName
    this.idInLbs = facts.idInLbs
    this.fencingToken = facts.fencingToken
    this.checkpoint = facts.checkpoint
    this.recovered = facts.recovered
    this.#ownerFell = facts.ownerFell ?? false
    this.#message = facts.message
    this.#takenAtMs = facts.takenAtMs
    this.#commits = facts.commits
    this.#progressAtMs = facts.takenAtMs
    this.#session = session
    this.#operations = operations
    Object.freeze(this)
  }

  get additionalInfo(): JsonObject {
    return additionalInfoOf(this.#message)
  }

  /** Info as it is in the entry, whatever a schema has made of it. */
  get info(): JsonObject | undefined {
    return this.#message.info
  }

  get owned(): boolean {
    return !this.#isLettingGo && this.#isHeld
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (!this.#isHeld) this.#controller.abort(this.#refusal())
      else this.session.trust.signals++
      if (this.#stopReason !== undefined) this.#controller.abort(this.#stopReason)
    }
    return this.#controller.signal
  }

  commit(checkpoint: string): Promise<void> {
    const problem = checkpointProblem(checkpoint)
    if (problem !== null) {
      const { dataStreamName } = this
      return Promise.reject(new StreamClientError('CHECKPOINT_INVALID', problem, { dataStreamName }))
    }
    return this.#inOrder(() => this.#operations.commit(this, checkpoint))
  }

  touch(): void {
    this.#progressAtMs = performance.now()
  }

  done(options: { keepCheckpoint?: boolean } = {}): Promise<void> {
    const keepCheckpoint = options.keepCheckpoint === true
    return this.#inOrder(() => this.#operations.finish(this, keepCheckpoint), 'done')
  }

  release(): Promise<void> {
    return this.#inOrder(() => this.#operations.release(this), 'release')
  }

  toJSON(): object {
    const { additionalInfo, checkpoint, dataStreamName, fencingToken, idInLbs, owned, recovered } = this
    return { dataStreamName, idInLbs, additionalInfo, fencingToken, checkpoint, recovered, owned }
  }

  get session(): Session {
    return this.#session
  }

  /** Monotonic. */
  get takenAtMs(): number {
    return this.#takenAtMs
  }

  /** When its owner last did something for it; monotonic. */
  get progressAtMs(): number {
    return this.#progressAtMs
  }

  /** True if the last owner crashed or hung, and was no earlier session of this process. */
  get ownerFell(): boolean {
    return this.#ownerFell
  }

  /** Draws the number of the next commit. */
  nextCommit(): number {
    return ++this.#commits
  }

  /** True once the application can know of the stream: only then `done()` of the client may finish it. */
  get isAnnounced(): boolean {
    return this.#isAnnounced
  }

  /** Notes that the application can know of the stream. */
  announce(): void {
    this.#isAnnounced = true
  }

  /** True while a call is under way: what Redis says of the stream may be about to change. */
  get isBusy(): boolean {
    return this.#tail !== undefined
  }

  /** True while its owner is about to end ownership. */
  get isLeaving(): boolean {
    return this.#leaving > 0
  }

  /** True if the application has asked for the signal and so is to be given time to stop. */
  get hasSignal(): boolean {
    return this.#controller !== undefined
  }

  /** True if it was taken only to be given back for want of room. */
  get isPassedOn(): boolean {
    return this.#isPassedOn
  }

  /** True if it came from a client that had more than its share. */
  get isMoved(): boolean {
    return this.#isMoved
  }

  markMoved(): void {
    this.#isMoved = true
  }

  /** How ownership has ended, if it has. */
  get endedBy(): OwnershipEnd | undefined {
    return this.#ended
  }

  /** True if its owner was asked to come to an end. */
  get isAskedToStop(): boolean {
    return this.#stopReason !== undefined
  }

  markPassedOn(): void {
    this.#isPassedOn = true
  }

  get hasEnded(): boolean {
    return this.#ended !== undefined
  }

  /** Asks the owner to come to an end; it still owns the stream. */
  askToStop(reason: StreamClientError): void {
    this.#stopReason = reason
    this.#controller?.abort(reason)
  }

  /** Ends ownership. The first end counts. */
  end(how: OwnershipEnd): void {
    if (this.#ended !== undefined) return
    this.#ended = how
    if (this.#controller !== undefined) {
      this.session.trust.signals--
      this.#controller.abort(this.#refusal())
    }
  }

  get #isHeld(): boolean {
    return this.#ended === undefined && this.session.isHeld()
  }

  /** Runs a call after those before it, if the stream is still owned then. */
  #inOrder(call: () => Promise<void>, ownEnd?: 'done' | 'release'): Promise<void> {
    const run = async (): Promise<void> => {
      if (ownEnd !== undefined && this.#ended === ownEnd) return
      if (!this.#isHeld) throw this.#refusal()
      this.#isLettingGo = ownEnd !== undefined
      try {
        await call()
      } finally {
        this.#isLettingGo = false
      }
    }
    if (ownEnd !== undefined) this.#leaving++
    const result = this.#tail === undefined ? run() : this.#tail.then(run)
    const tail = result.then(ignore, ignore).then(() => {
      this.touch()
      if (ownEnd !== undefined) this.#leaving--
      if (this.#tail === tail) this.#tail = undefined
    })
    this.#tail = tail
    return result
  }

  /** Why a call is refused, and the reason of the signal. */
  #refusal(): StreamClientError {
    const { dataStreamName, idInLbs, fencingToken } = this
    const facts = { dataStreamName, idInLbs, fencingToken }
    const how = this.#ended
    if (how === undefined || how === 'session-lost') {
      const cause = this.session.signal.reason as unknown
      return new StreamClientError('SESSION_LOST', `the session that owned ${dataStreamName} is over`, {
        ...facts,
        cause,
      })
    }
    return new StreamClientError(
      'STREAM_NOT_OWNED',
      `${dataStreamName} is not owned any more: ${ENDS[how]}`,
      facts,
    )
  }
}

const ENDS: Record<Exclude<OwnershipEnd, 'session-lost'>, string> = {
  done: 'its owner has finished it',
  release: 'its owner has given it back',
  'taken-over': 'another owner has it',
  'entry-gone': 'its entry has left the LBS',
  rebalanced: 'others had fewer streams, and its owner did not give it back in time',
  'no-progress': 'it was neither committed nor touched for progressTimeoutMs',
}

function checkpointProblem(checkpoint: unknown): string | null {
  if (typeof checkpoint !== 'string') return `a checkpoint must be a string, got ${typeof checkpoint}`
  if (/\p{Surrogate}/u.test(checkpoint))
    return 'a checkpoint must be well-formed: it holds half of a surrogate pair'
  const bytes = Buffer.byteLength(checkpoint)
  if (bytes > GREATEST_CHECKPOINT_BYTES) {
    return `a checkpoint must not be longer than ${GREATEST_CHECKPOINT_BYTES} bytes in UTF-8, got ${bytes}`
  }
  return null
}

function ignore(): void {}
