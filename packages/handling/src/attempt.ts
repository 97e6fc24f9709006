/**
 * One call of the handler, with one record or one batch.
 *
 *   running ── handler settles ──> over: ok, failed
 *   running ── timeout, drain, ownership lost ──> aborted: the signal says so
 *   aborted ── handler settles ──> over: ok, failed, interrupted
 *   aborted ── it does not within the grace ──> over: abandoned. What it still does through its context is refused.
 */

/** Why an attempt was asked to stop. */
export type AbortKind = 'timeout' | 'drain' | 'lost'

export type AttemptOutcome =
  | { readonly type: 'ok' }
  /** The handler threw, or did not end in time. */
  | {
      readonly type: 'failed'
      readonly error: unknown
      readonly isTimeout: boolean
      readonly isAbandoned: boolean
    }
  /** It was asked to stop because the worker or its ownership ends; nothing is known about the record. */
  | { readonly type: 'interrupted'; readonly isAbandoned: boolean }

export interface AttemptLimits<Item> {
  readonly timeoutMs: number
  readonly abandonAfterMs: number
  /** The error of an attempt that was not over in time. */
  readonly timedOut: (items: readonly Item[], timeoutMs: number) => Error
}

const OK: AttemptOutcome = { type: 'ok' }

/** `Item` is what is handled: a record of a data stream, or a message of a queue. */
export class Attempt<Item> {
  readonly records: readonly Item[]
  /** From 1. */
  readonly number: number
  /** The stream ends with the last of the records: `isLast` or the handler has said so. */
  isLast: boolean
  /** Of the monotonic clock. */
  readonly startedAtMs: number = performance.now()
  /** True once the log has said that the handler takes long. */
  isKnownSlow = false
  readonly #limits: AttemptLimits<Item>
  #controller: AbortController | undefined
  #abort: { readonly kind: AbortKind; readonly reason: Error } | undefined
  #timer: NodeJS.Timeout | undefined
  #settle: ((outcome: AttemptOutcome) => void) | undefined
  #isOver = false

  constructor(
    portion: { readonly records: readonly Item[]; readonly isLast: boolean },
    number: number,
    limits: AttemptLimits<Item>,
  ) {
    this.records = portion.records
    this.isLast = portion.isLast
    this.number = number
    this.#limits = limits
  }

  /** True when the handler's result does not count any more. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Made on first use: most handlers never look. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#abort !== undefined) this.#controller.abort(this.#abort.reason)
    }
    return this.#controller.signal
  }

  /** Calls the handler with its record or records. Never rejects. */
  run<Subject, Context>(
    handler: (subject: Subject, context: Context) => unknown,
    subject: Subject,
    context: Context,
  ): Promise<AttemptOutcome> {
    const { timedOut, timeoutMs } = this.#limits
    return new Promise((resolve) => {
      this.#settle = resolve
      if (timeoutMs < Infinity) {
        this.#timer = setTimeout(() => this.abort('timeout', timedOut(this.records, timeoutMs)), timeoutMs)
      }
      try {
        Promise.resolve(handler(subject, context)).then(
          () => this.#end(OK),
          (error: unknown) => this.#end(this.#failure(error, false)),
        )
      } catch (error) {
        this.#end(this.#failure(error, false))
      }
    })
  }

  /** Asks the handler to stop, and leaves it to itself when it does not. The first call counts. */
  abort(kind: AbortKind, reason: Error): void {
    if (this.#isOver || this.#abort !== undefined) return
    this.#abort = { kind, reason }
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#end(this.#failure(reason, true)), this.#limits.abandonAfterMs)
    this.#controller?.abort(reason)
  }

  #failure(error: unknown, isAbandoned: boolean): AttemptOutcome {
    if (this.#abort === undefined) return { type: 'failed', error, isTimeout: false, isAbandoned }
    if (this.#abort.kind !== 'timeout') return { type: 'interrupted', isAbandoned }
    return { type: 'failed', error: this.#abort.reason, isTimeout: true, isAbandoned }
  }

  #end(outcome: AttemptOutcome): void {
    if (this.#isOver) return
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#settle?.(outcome)
  }
}
