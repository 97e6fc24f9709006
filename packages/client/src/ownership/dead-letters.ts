/** Entries that cannot be served, on their way out of the LBS. */
import type { SafeLogger } from '../logger.js'
import type { SafeRecorder } from '../metrics.js'
import type { Lbs, UnreadableEntry } from '../redis/lbs.js'
import { messageOf } from '../redis/redis-errors.js'
import { BATCH_LIMIT, type ServiceScripts } from '../redis/service-scripts.js'
import type { BuryAnswer } from '../redis/stream-scripts.js'
import { endLost, type Retries } from '../session/retries.js'
import type { Session } from '../session/session.js'

const LOG_EVERY_MS = 1000

export interface DeadLetter {
  readonly idInLbs: string
  /** Null where the entry does not say. */
  readonly dataStreamName: string | null
  readonly reason: string
  readonly error: string
}

export interface DeadLettersContext {
  readonly lbs: Lbs
  readonly deadLetterMaxLen: number
  readonly scripts: ServiceScripts
  readonly retries: Retries
  readonly recorder: SafeRecorder
  readonly logger: SafeLogger
  readonly onDeadLetter: (letter: DeadLetter) => void
}

export class DeadLetters {
  readonly #context: DeadLettersContext
  #isQuiet = false
  /** Since the last line in the log, and the last of them. */
  #unlogged = 0
  #last: DeadLetter | undefined

  constructor(context: DeadLettersContext) {
    this.#context = context
  }

  /**
   * Moves entries that cannot be read, or whose data stream cannot be owned. Rejects with SESSION_LOST or REDIS_ERROR;
   * what was not moved stays pending.
   */
  async buryUnreadable(session: Session, entries: readonly UnreadableEntry[]): Promise<void> {
    const letters: DeadLetter[] = []
    for (const entry of entries) {
      const letter = letterOf(entry)
      if (entry.largeFields === undefined) letters.push(letter)
      else if (!(await this.#buryLarge(session, letter, entry.largeFields))) letters.push(letter)
    }
    for (let done = 0; done < letters.length; ) {
      done += (await this.bury(session, letters.slice(done, done + BATCH_LIMIT))).length
    }
  }

  /**
   * Copies an entry to the dead letters with plain commands, then has a script remove it, because a script that copies
   * tens of megabytes keeps Redis from its other clients. The copy comes first, so a crash leaves two and never none.
   * False if the copy did not get there, over a slow link for instance: then the script has to do it after all.
   */
  async #buryLarge(session: Session, letter: DeadLetter, fields: readonly Buffer[]): Promise<boolean> {
    const { deadLetterMaxLen, lbs, logger, retries, scripts } = this.#context
    let letterId: string
    try {
      letterId = await lbs.copyToDead(fields, { ...letter, client: session.clientId }, deadLetterMaxLen)
    } catch (error) {
      logger.debug({ error: messageOf(error), idInLbs: letter.idInLbs }, 'copying a large entry failed')
      return false
    }
    const answer = await retries.send('write dead letters', session, () =>
      scripts.buryCopied(session, letter.idInLbs),
    )
    if (answer === 'SESSION_LOST') throw endLost('write dead letters', session)
    if (answer === 'LEFT') {
      await retries.send('drop a copy', session, () => lbs.dropDead(letterId))
    } else {
      this.report(letter)
    }
    return true
  }

  /**
   * Moves at most a batch of entries; answers what became of the first of them, at least of one. Large entries are moved a
   * few at a time: what has no answer is for the next call. Rejects as `buryUnreadable` does.
   */
  async bury(session: Session, letters: readonly DeadLetter[]): Promise<BuryAnswer[]> {
    const { retries, scripts } = this.#context
    const entries = letters.map(({ idInLbs, reason, error }) => ({ id: idInLbs, reason, problem: error }))
    const answers = await retries.send('write dead letters', session, () => scripts.bury(session, entries))
    if (answers === 'SESSION_LOST') throw endLost('write dead letters', session)
    answers.forEach((answer, index) => {
      if (answer === 'BURIED') this.report(letters[index] as DeadLetter)
    })
    return answers
  }

  /** Says that an entry has gone to the dead letters. */
  report(letter: DeadLetter): void {
    const { onDeadLetter, recorder } = this.#context
    Object.freeze(letter)
    this.#log(letter)
    recorder.deadLettered({ reason: letter.reason })
    onDeadLetter(letter)
  }

  /** Writes the first at once, and then a line a second that says how many more there were, with the last of them. */
  #log(letter: DeadLetter): void {
    if (this.#isQuiet) {
      this.#unlogged++
      this.#last = letter
      return
    }
    this.#context.logger.warn(letter, 'an entry cannot be served: it is in the dead letters now')
    this.#keepQuiet()
  }

  #keepQuiet(): void {
    this.#isQuiet = true
    setTimeout(() => {
      this.#isQuiet = false
      if (this.#unlogged === 0) return
      const facts = { ...this.#last, count: this.#unlogged }
      this.#unlogged = 0
      this.#context.logger.warn(facts, 'more entries cannot be served: they are in the dead letters now')
      this.#keepQuiet()
    }, LOG_EVERY_MS).unref()
  }
}

function letterOf({ id, problem, refused }: UnreadableEntry): DeadLetter {
  return {
    idInLbs: id,
    dataStreamName: refused?.dataStreamName ?? null,
    reason: refused?.reason ?? 'malformed',
    error: problem,
  }
}
