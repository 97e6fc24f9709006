/**
 * An owned stream without a client and without Redis. What it refuses, in which order it does what it is asked, and what its
 * signal says is decided by the same code as with a client; only what would be sent to Redis is kept here instead.
 */
import { type StreamFacts, StreamHandle, type StreamOperations } from '@redis-stream-client/client/internal'
import {
  type DisownReason,
  type JsonObject,
  type OwnedStream,
  StreamClientError,
} from '@redis-stream-client/notifs'

const FIRST_ID_MS = 1_700_000_000_000

export interface FakeStreamOptions {
  /** `Info` of the assignment; `{}` by default. */
  readonly additionalInfo?: JsonObject | undefined
  /** What the last owner has committed; null by default. */
  readonly checkpoint?: string | null | undefined
  /** True if it was taken over from an earlier owner; false by default. */
  readonly recovered?: boolean | undefined
  /** By default greater than that of every stream made before. */
  readonly fencingToken?: number | undefined
  /** By default one that no other has. */
  readonly idInLbs?: string | undefined
}

/** A call that may be made to fail. */
export type FakeStreamCall = 'commit' | 'done' | 'release'

let made = 0

export class FakeStream implements OwnedStream {
  /** What was committed, in order. */
  readonly commits: string[] = []
  /** How often the owner has said that it goes on. */
  touches = 0
  readonly #handle: StreamHandle
  readonly #session: FakeSession
  readonly #failures: { readonly call: FakeStreamCall; readonly error: Error }[] = []
  readonly #onEnd = new Set<() => void>()
  #kept: string | null

  constructor(dataStreamName: string, options: FakeStreamOptions = {}) {
    made++
    const { additionalInfo, checkpoint = null, recovered = false, fencingToken = made } = options
    const { idInLbs = `${FIRST_ID_MS + made}-0` } = options
    const message = { dataStreamName, ...(additionalInfo === undefined ? {} : { info: additionalInfo }) }
    const takenAtMs = performance.now()
    const facts: StreamFacts = {
      ...{ dataStreamName, idInLbs, message, fencingToken, checkpoint, recovered, takenAtMs },
      commits: 0,
    }
    this.#session = new FakeSession()
    this.#kept = checkpoint
    // The handle asks its session for no more than FakeSession has.
    this.#handle = new StreamHandle(facts, this.#session as never, this.#operations())
  }

  get dataStreamName(): string {
    return this.#handle.dataStreamName
  }

  get idInLbs(): string {
    return this.#handle.idInLbs
  }

  get additionalInfo(): JsonObject {
    return this.#handle.additionalInfo
  }

  get fencingToken(): number {
    return this.#handle.fencingToken
  }

  get checkpoint(): string | null {
    return this.#handle.checkpoint
  }

  get recovered(): boolean {
    return this.#handle.recovered
  }

  get owned(): boolean {
    return this.#handle.owned
  }

  get signal(): AbortSignal {
    return this.#handle.signal
  }

  commit(checkpoint: string): Promise<void> {
    return this.#handle.commit(checkpoint)
  }

  touch(): void {
    this.touches++
    this.#handle.touch()
  }

  done(options?: { keepCheckpoint?: boolean }): Promise<void> {
    return this.#handle.done(options)
  }

  release(): Promise<void> {
    return this.#handle.release()
  }

  /** Of the test: how ownership has ended; null while it has not. */
  get endedBy(): FakeStreamCall | DisownReason | null {
    return this.#handle.endedBy ?? null
  }

  /** Of the test: the checkpoint that the next owner would find. */
  get storedCheckpoint(): string | null {
    return this.#kept
  }

  /** Of the test: true once somebody has read `signal`. A client that closes waits only for such owners. */
  get hasSignal(): boolean {
    return this.#handle.hasSignal
  }

  /** Of the test: resolves when ownership has ended, however. */
  ended(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#handle.hasEnded) resolve()
      else this.#onEnd.add(resolve)
    })
  }

  /**
   * Of the test: ownership is over, as if the client had found out. `owned` is false, the signal aborts, calls are refused
   * (SESSION_LOST after `session-lost`, else STREAM_NOT_OWNED). Does nothing once it has ended.
   */
  disown(reason: DisownReason = 'taken-over'): void {
    if (reason === 'session-lost') this.#session.end('a test has ended it')
    this.#end(reason)
  }

  /**
   * Of the test: asks the owner to come to an end, while it still owns the stream: the signal aborts. `CLOSED`: the client
   * closes. `REBALANCING`: others have fewer streams.
   */
  askToStop(code: 'CLOSED' | 'REBALANCING'): void {
    const why = code === 'CLOSED' ? 'closing' : 'others have fewer streams'
    const { dataStreamName } = this
    const what = `${why}: commit, then release or finish the stream`
    this.#handle.askToStop(new StreamClientError(code, what, code === 'CLOSED' ? {} : { dataStreamName }))
  }

  /** Of the test: the next such call rejects with this error, and nothing is stored. Default: a REDIS_ERROR. */
  failNext(call: FakeStreamCall, error?: Error): void {
    const { dataStreamName } = this
    const byDefault = new StreamClientError('REDIS_ERROR', `${call}: a test has it fail`, { dataStreamName })
    this.#failures.push({ call, error: error ?? byDefault })
  }

  toJSON(): object {
    return this.#handle.toJSON()
  }

  #operations(): StreamOperations {
    return {
      commit: async (_, checkpoint) => {
        await this.#answer('commit')
        this.commits.push(checkpoint)
        this.#kept = checkpoint
      },
      finish: async (_, keepCheckpoint) => {
        await this.#answer('done')
        if (!keepCheckpoint) this.#kept = null
        this.#end('done')
      },
      release: async () => {
        await this.#answer('release')
        this.#end('release')
      },
    }
  }

  /** Redis answers: never in the same turn. A stream that was lost meanwhile is refused. */
  async #answer(call: FakeStreamCall): Promise<void> {
    await Promise.resolve()
    const index = this.#failures.findIndex((each) => each.call === call)
    const [failure] = index < 0 ? [] : this.#failures.splice(index, 1)
    if (failure !== undefined) throw failure.error
    if (!this.#handle.hasEnded) return
    const { dataStreamName, endedBy } = this
    const code = endedBy === 'session-lost' ? 'SESSION_LOST' : 'STREAM_NOT_OWNED'
    throw new StreamClientError(code, `${call}: ${dataStreamName} is not owned any more`, { dataStreamName })
  }

  #end(how: Exclude<FakeStreamCall, 'commit'> | DisownReason): void {
    this.#handle.end(how)
    for (const resolve of this.#onEnd) resolve()
    this.#onEnd.clear()
  }
}

/** The session of one stream, which ends when the test says so. */
class FakeSession {
  readonly clientId = 'redis-consumer-test'
  readonly trust = { signals: 0 }
  readonly #controller = new AbortController()

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  isHeld(): boolean {
    return !this.signal.aborted
  }

  end(why: string): void {
    const { clientId } = this
    this.#controller.abort(
      new StreamClientError('SESSION_LOST', `the session is over: ${why}`, { client: clientId }),
    )
  }
}
