/**
 * The circuit breaker: while it is open no stream begins a record, in half-open one record is tried at a time.
 *
 *   closed ── so many failures in a row ──> open ── halfOpenAfterMs ──> half-open
 *   half-open ── the record succeeds ──> closed      half-open ── it fails ──> open
 *
 * cockatiel decides; this file is the only one that knows it.
 */
import { startTimer } from '@redis-stream-client/client/internal'
import {
  BrokenCircuitError,
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhenResult,
} from 'cockatiel'
import type { AttemptOutcome } from './attempt.js'
import { isNonRetryable } from './failures.js'
import { plainAnswer } from './plain-answer.js'

export type BreakerState = 'closed' | 'open' | 'half-open'

export interface CircuitBreakerOptions {
  /** Failures in a row, over all streams, after which it opens. Default 5. */
  readonly failures?: number | undefined
  /** How long it stays open before one record is tried. Default 10000. */
  readonly halfOpenAfterMs?: number | undefined
  /** Which errors mean that a dependency is down. Default: all but NonRetryableError. */
  readonly isFailure?: ((error: unknown) => boolean) | undefined
}

const DEFAULT_FAILURES = 5
const DEFAULT_HALF_OPEN_AFTER_MS = 10_000

export class Breaker {
  readonly #policy: ReturnType<typeof circuitBreaker>
  readonly #halfOpenAfterMs: number
  readonly #onChange: (state: BreakerState) => void
  #isResting = false
  #isProbing = false
  #timer: NodeJS.Timeout | undefined

  /**
   * `onChange` is also called when a closed or half-open breaker lets records begin again. `onProblem` hears of an
   * `isFailure` that has not answered; then the default decides.
   */
  constructor(
    options: CircuitBreakerOptions,
    onChange: (state: BreakerState) => void,
    onProblem: (error: unknown) => void,
  ) {
    const isFailure = (error: unknown): boolean => {
      try {
        if (options.isFailure !== undefined) {
          return plainAnswer('circuitBreaker.isFailure', options.isFailure(error))
        }
      } catch (problem) {
        onProblem(problem)
      }
      return !isNonRetryable(error)
    }
    this.#halfOpenAfterMs = options.halfOpenAfterMs ?? DEFAULT_HALF_OPEN_AFTER_MS
    this.#onChange = onChange
    this.#policy = circuitBreaker(
      handleWhenResult((result) => {
        const outcome = result as AttemptOutcome
        // A probe that was interrupted says nothing: somebody else tries, later.
        if (outcome.type === 'interrupted') return this.#isProbing
        return outcome.type === 'failed' && isFailure(outcome.error)
      }),
      {
        halfOpenAfter: this.#halfOpenAfterMs,
        breaker: new ConsecutiveBreaker(options.failures ?? DEFAULT_FAILURES),
      },
    )
    this.#policy.onBreak(() => this.#rest())
    this.#policy.onReset(() => onChange('closed'))
  }

  get state(): BreakerState {
    if (this.#isResting) return 'open'
    return this.#policy.state === CircuitState.Closed ? 'closed' : 'half-open'
  }

  /** True if a record may begin now. */
  get mayStart(): boolean {
    return !this.#isResting && (this.#policy.state === CircuitState.Closed || !this.#isProbing)
  }

  /**
   * Runs an attempt. Null if nothing is known about the record: it was not begun, because the breaker is open, or it
   * was the one that found out that the dependency is still down.
   */
  async run(attempt: () => Promise<AttemptOutcome>): Promise<AttemptOutcome | null> {
    if (!this.mayStart) return null
    const isProbe = this.#policy.state !== CircuitState.Closed
    if (isProbe) this.#isProbing = true
    try {
      const outcome = (await this.#policy.execute(attempt)) as AttemptOutcome
      return isProbe && this.#isResting && outcome.type === 'failed' ? null : outcome
    } catch (error) {
      if (!(error instanceof BrokenCircuitError)) throw error
      this.#rest() // the wall clock, by which cockatiel counts, was set back
      return null
    } finally {
      if (isProbe) this.#isProbing = false
    }
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  #rest(): void {
    this.#isResting = true
    clearTimeout(this.#timer)
    this.#onChange('open')
    this.#timer = startTimer(this.#halfOpenAfterMs + 1, () => {
      this.#isResting = false
      this.#onChange('half-open')
    })
  }
}
