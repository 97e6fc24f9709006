/**
 * Entries that Redis refuses to have taken, each sent alone. One goes to the dead letters if the cause is known to be its
 * own, or if it is refused again and again, over some time, while Redis is willing to take others.
 */
import type { StreamClientError } from '@redis-stream-client/notifs'
import type { SafeLogger } from '../logger.js'
import type { ReadableEntry } from '../redis/lbs.js'
import { isForbidden } from '../redis/redis-errors.js'
import type { ServiceScripts } from '../redis/service-scripts.js'
import type { Retries } from '../session/retries.js'
import type { Session } from '../session/session.js'
import type { DeadLetters } from './dead-letters.js'
import type { Refusals } from './refusals.js'

export interface RefusedEntriesContext {
  readonly scripts: ServiceScripts
  readonly retries: Retries
  readonly deadLetters: DeadLetters
  readonly refusals: Refusals
  readonly logger: SafeLogger
  /** An entry was refused and stays pending: it should be tried again soon. */
  readonly onRefused: () => void
}

export type Judgement =
  | { readonly outcome: 'failed'; readonly error: StreamClientError }
  | { readonly outcome: 'dead-lettered' | 'left' | 'gone' }

export class RefusedEntries {
  readonly #context: RefusedEntriesContext

  constructor(context: RefusedEntriesContext) {
    this.#context = context
  }

  /** Redis has answered for an entry. */
  forget(idInLbs: string): void {
    this.#context.refusals.forget(idInLbs)
  }

  /**
   * Finds out whether an entry is to blame for an error. If so it goes to the dead letters, else it stays pending and is
   * tried again soon. `takeNothing` rejects where Redis refuses whatever is to be taken; then so does this.
   */
  async judge(
    session: Session,
    entry: ReadableEntry,
    error: StreamClientError,
    takeNothing: () => Promise<void>,
  ): Promise<Judgement> {
    const { deadLetters, logger, onRefused, refusals, retries, scripts } = this.#context
    const { dataStreamName } = entry.message
    if (isForbidden(error.cause)) throw error
    await retries.send('look for foreign keys', session, () => scripts.readShared())
    const isDamaged = await retries.send('look for damage', session, () => scripts.isDamaged(dataStreamName))
    if (!isDamaged) {
      await takeNothing()
      if (!refusals.add(entry.id)) {
        const facts = { idInLbs: entry.id, dataStreamName, error: error.message }
        logger.warn(facts, 'Redis refuses to have this entry taken: it stays pending and is tried again')
        onRefused()
        return { outcome: 'failed', error }
      }
    }
    refusals.forget(entry.id)
    const letter = { idInLbs: entry.id, dataStreamName, reason: 'unserviceable', error: error.message }
    const [answer] = await deadLetters.bury(session, [letter])
    return { outcome: answer === 'BURIED' ? 'dead-lettered' : answer === 'LEFT' ? 'left' : 'gone' }
  }
}
