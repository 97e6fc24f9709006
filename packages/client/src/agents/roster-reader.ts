/** Reads the roster for all who ask: whoever asks while one is being read gets the next, with the others. */

import { sleep } from '../async/sleep.js'
import type { RosterLine, ServiceScripts } from '../redis/service-scripts.js'
import type { Persistence } from '../session/persist.js'
import type { Session } from '../session/session.js'

/** Time for hints that come in a bunch to gather. */
const GATHER_MS = 2

export class RosterReader {
  readonly #scripts: ServiceScripts
  readonly #persistence: Persistence
  #next: Promise<RosterLine[]> | undefined
  #current: Promise<unknown> = Promise.resolve()

  constructor(scripts: ServiceScripts, persistence: Persistence) {
    this.#scripts = scripts
    this.#persistence = persistence
  }

  /** A roster that was read after this call. Rejects with SESSION_LOST when the session ends first. */
  read(session: Session): Promise<RosterLine[]> {
    this.#next ??= this.#readNext(session)
    return this.#next
  }

  async #readNext(session: Session): Promise<RosterLine[]> {
    await Promise.allSettled([this.#current])
    await sleep(GATHER_MS, session.signal)
    const reading = this.#persistence.send('read the roster', session, () => this.#scripts.roster())
    this.#current = reading
    this.#next = undefined
    return await reading
  }
}
