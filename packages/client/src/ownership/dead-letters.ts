/** Entries that cannot be served, on their way out of the LBS. */
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { UnreadableEntry } from '../redis/lbs.js'
import { BATCH_LIMIT, type BuryAnswer, type ServiceScripts } from '../redis/service-scripts.js'
import { type Persistence, sessionLost } from '../session/persist.js'
import type { Session } from '../session/session.js'

export interface DeadLetter {
  readonly idInLbs: string
  /** Null where the entry does not say. */
  readonly dataStreamName: string | null
  readonly reason: string
  readonly error: string
}

export interface DeadLettersContext {
  readonly scripts: ServiceScripts
  readonly persistence: Persistence
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  readonly onDeadLetter: (letter: DeadLetter) => void
}

export class DeadLetters {
  readonly #context: DeadLettersContext

  constructor(context: DeadLettersContext) {
    this.#context = context
  }

  /** Moves entries that cannot be read, or whose data stream cannot be owned. Rejects with SESSION_LOST or REDIS_ERROR; what was not moved stays pending. */
  async buryUnreadable(session: Session, entries: readonly UnreadableEntry[]): Promise<void> {
    const letters = entries.map(({ id, problem, reservedName }) => ({
      idInLbs: id,
      dataStreamName: reservedName ?? null,
      reason: reservedName === undefined ? 'malformed' : 'reserved-name',
      error: problem,
    }))
    for (let done = 0; done < letters.length; ) {
      done += (await this.bury(session, letters.slice(done, done + BATCH_LIMIT))).length
    }
  }

  /**
   * Moves at most a batch of entries; answers what became of the first of them, at least of one. Large entries are moved a
   * few at a time: what has no answer is for the next call. Rejects as `buryUnreadable` does.
   */
  async bury(session: Session, letters: readonly DeadLetter[]): Promise<BuryAnswer[]> {
    const { persistence, scripts } = this.#context
    const entries = letters.map(({ idInLbs, reason, error }) => ({ id: idInLbs, reason, problem: error }))
    const answers = await persistence.send('write dead letters', session, () =>
      scripts.bury(session, entries),
    )
    if (answers === 'SESSION_LOST') {
      session.end('its heartbeat key holds another value or none')
      throw sessionLost('write dead letters', session)
    }
    answers.forEach((answer, index) => {
      if (answer === 'BURIED') this.report(letters[index] as DeadLetter)
    })
    return answers
  }

  /** Says that an entry has gone to the dead letters. */
  report(letter: DeadLetter): void {
    const { logger, onDeadLetter, recorder } = this.#context
    Object.freeze(letter)
    logger.warn(letter, 'an entry cannot be served: it is in the dead letters now')
    recorder.deadLettered({ reason: letter.reason })
    onDeadLetter(letter)
  }
}
