/** Reads LBS entries by their ids, a bounded number of bytes at a time. */
import type { FoundEntry, Lbs } from '../redis/lbs.js'
import type { Retries } from './retries.js'
import type { Session } from './session.js'

export interface EntryParts {
  readonly lbs: Lbs
  readonly retries: Retries
}

/**
 * Yields what is under each id, in the order of the ids, as many at a time as may be in hand. What has been yielded is
 * not asked for again when a later part fails. Throws SESSION_LOST when the session ends meanwhile, REDIS_ERROR when
 * Redis refuses.
 */
export async function* entryParts(
  { lbs, retries }: EntryParts,
  session: Session,
  ids: readonly string[],
): AsyncGenerator<readonly FoundEntry[], void> {
  for (let rest = ids; rest.length > 0; ) {
    const part = await retries.send('read entries', session, () => lbs.firstEntries(rest))
    rest = rest.slice(part.length)
    yield part
  }
}
