/**
 * Reads the roster for all who ask: whoever asks while one is being read gets the next, with the others.
 * Where the last took long, Redis or the machine is busy, and the next waits the longer: when a fleet begins or dies
 * together every client hears of every other, and their reading must not be what keeps Redis from their heartbeats.
 */

import { sleep } from '../async/sleep.js'
import type { Clock } from '../decisions/clock.js'
import type { RosterLine, ServiceScripts } from '../redis/service-scripts.js'
import type { Persistence } from '../session/persist.js'
import type { Session } from '../session/session.js'

/** Time for hints that come in a bunch to gather. */
const GATHER_MS = 2
/** Between two readings: so many times what the last took, but no longer than this. */
const PAUSE_SHARE = 10
const GREATEST_PAUSE_MS = 250
/** How old a roster may be to count as recent: what it says of who lives is then rarely wrong. */
const RECENT_MS = 500

interface Reading {
  readonly session: Session
  readonly sinceMs: number
  readonly roster: Promise<RosterLine[]>
}

export class RosterReader {
  readonly #scripts: ServiceScripts
  readonly #persistence: Persistence
  readonly #clock: Clock
  #next: Reading | undefined
  #current: Reading | undefined
  #notBeforeMs = 0

  constructor(scripts: ServiceScripts, persistence: Persistence, clock: Clock) {
    this.#scripts = scripts
    this.#persistence = persistence
    this.#clock = clock
  }

  /** A roster whose reading began not long ago, or else as `read`. */
  recent(session: Session): Promise<RosterLine[]> {
    const current = this.#current
    const isRecent = current?.session === session && this.#nowMs() - current.sinceMs < RECENT_MS
    return isRecent ? current.roster : this.read(session)
  }

  /** A roster that was read after this call. Rejects with SESSION_LOST when the session ends first. */
  read(session: Session): Promise<RosterLine[]> {
    if (this.#next?.session !== session) {
      this.#next = { session, sinceMs: this.#nowMs(), roster: this.#readNext(session) }
    }
    return this.#next.roster
  }

  async #readNext(session: Session): Promise<RosterLine[]> {
    await Promise.allSettled([this.#current?.roster])
    await sleep(Math.max(GATHER_MS, this.#notBeforeMs - this.#nowMs()), session.signal)
    const reading = { session, sinceMs: this.#nowMs(), roster: this.#readTimed(session) }
    if (this.#next?.session === session) this.#next = undefined
    this.#current = reading
    try {
      return await reading.roster
    } catch (error) {
      if (this.#current === reading) this.#current = undefined
      throw error
    }
  }

  async #readTimed(session: Session): Promise<RosterLine[]> {
    const startMs = this.#nowMs()
    try {
      return await this.#persistence.send('read the roster', session, () => this.#scripts.roster())
    } finally {
      const tookMs = this.#nowMs() - startMs
      this.#notBeforeMs = this.#nowMs() + Math.min(GREATEST_PAUSE_MS, PAUSE_SHARE * tookMs)
    }
  }

  #nowMs(): number {
    return this.#clock.now().monotonicMs
  }
}
