/**
 * How long a session may trust itself without asking Redis.
 *
 * Redis forgets the heartbeat key `ttlMs` after it executed the last extension, which is never before that extension
 * was sent. So whoever stops `margin` before `sent + ttlMs` stops before anybody else can begin.
 */
import { type Clock, elapsedMs, type Instant } from './clock.js'

const MARGIN_OF_TTL = 0.05
const LEAST_MARGIN_MS = 20
/** What aborting one signal costs at most, listeners of an ordinary kind included. */
const ABORT_COST_MS = 0.005
const GREATEST_ABORT_SHARE = 0.25

export class Trust {
  readonly #ttlMs: number
  readonly #clock: Clock
  #renewedAt: Instant
  #isOver = false
  /** Signals that have to be aborted when trust ends: their number widens the margin. */
  signals = 0

  constructor(ttlMs: number, clock: Clock, beganAt: Instant) {
    this.#ttlMs = ttlMs
    this.#clock = clock
    this.#renewedAt = beganAt
  }

  /** A heartbeat sent at `sentAt` has succeeded. One that answers after trust has ended does not count: false. */
  renew(sentAt: Instant): boolean {
    if (this.leftMs() <= 0) return false
    this.#renewedAt = sentAt
    return true
  }

  /** Milliseconds of trust left; 0: over, for ever. */
  leftMs(): number {
    const abortMs = Math.min(this.signals * ABORT_COST_MS, this.#ttlMs * GREATEST_ABORT_SHARE)
    if (this.#isOver) return 0
    const marginMs = Math.max(this.#ttlMs * MARGIN_OF_TTL, LEAST_MARGIN_MS) + abortMs
    const leftMs = this.#ttlMs - marginMs - elapsedMs(this.#renewedAt, this.#clock.now())
    if (leftMs <= 0) this.#isOver = true // for ever, even if somebody sets the clock back
    return Math.max(0, leftMs)
  }
}
