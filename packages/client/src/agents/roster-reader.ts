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

export class RosterReader {
  readonly #scripts: ServiceScripts
  readonly #persistence: Persistence
  readonly #clock: Clock
  #next: { readonly session: Session; readonly roster: Promise<RosterLine[]> } | undefined
  #current: Promise<unknown> = Promise.resolve()
  #notBeforeMs = 0

  constructor(scripts: ServiceScripts, persistence: Persistence, clock: Clock) {
    this.#scripts = scripts
    this.#persistence = persistence
    this.#clock = clock
  }

  /** A roster that was read after this call. Rejects with SESSION_LOST when the session ends first. */
  read(session: Session): Promise<RosterLine[]> {
    if (this.#next?.session !== session) this.#next = { session, roster: this.#readNext(session) }
    return this.#next.roster
  }

  async #readNext(session: Session): Promise<RosterLine[]> {
    await Promise.allSettled([this.#current])
    await sleep(Math.max(GATHER_MS, this.#notBeforeMs - this.#nowMs()), session.signal)
    if (this.#next?.session === session) this.#next = undefined
    const reading = this.#readTimed(session)
    this.#current = reading
    return await reading
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
