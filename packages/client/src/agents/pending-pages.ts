/** Goes through the entries pending under a consumer, page by page. */

import type { Lbs } from '../redis/lbs.js'
import type { Retries } from '../session/retries.js'
import type { Session } from '../session/session.js'

export interface PendingPages {
  readonly lbs: Lbs
  readonly retries: Retries
}

export interface PendingQuery {
  readonly consumer: string
  readonly pageSize: number
  /** Only entries idle for this long. */
  readonly idleMs?: number | undefined
}

/** Yields ids in their order. Throws SESSION_LOST when the session ends meanwhile. */
export async function* pendingPages(
  { lbs, retries }: PendingPages,
  session: Session,
  { consumer, pageSize, idleMs }: PendingQuery,
): AsyncGenerator<readonly string[], void> {
  let after: string | null = null
  for (;;) {
    const ids: readonly string[] = await nextPage(after)
    if (ids.length > 0) yield ids
    if (ids.length < pageSize) return
    after = ids.at(-1) ?? null
  }

  function nextPage(cursor: string | null): Promise<readonly string[]> {
    return retries.send('read pending entries', session, () =>
      lbs.pendingIds(consumer, pageSize, cursor, idleMs),
    )
  }
}
