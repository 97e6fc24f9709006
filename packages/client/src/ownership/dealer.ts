/**
 * Has entries dealt to this session that wait for an owner under a dead consumer or in the pool. Nobody else is dealt the
 * same entries.
 */
import { isReadable, isUnreadable, type Lbs, type ReadableEntry } from '../redis/lbs.js'
import type { DealRules, ServiceScripts } from '../redis/service-scripts.js'
import { endLost, type Retries } from '../session/retries.js'
import type { Session } from '../session/session.js'
import type { DeadLetters } from './dead-letters.js'

/** The application has so many staggers to claim what it is told of, and at least this long. */
const STAGGERS_TO_CLAIM = 3
const LEAST_TIME_TO_CLAIM_MS = 20

export interface DealerContext {
  readonly session: Session
  readonly scripts: ServiceScripts
  readonly lbs: Lbs
  readonly retries: Retries
  readonly deadLetters: DeadLetters
  readonly claimStaggerMs: number
  readonly heartbeatTtlMs: number
  readonly lbsIdleTimeMs: number
  /** An entry was met that is not in the LBS any more: its stream may have to be freed. */
  readonly onGone: () => void
  /** Entries may be pending under this session that it has not taken: an answer was lost. */
  readonly onLeftPending: () => void
}

/** Entries of some consumer. */
export interface Portion {
  readonly from: string
  readonly count: number
  /** Only entries that have waited for so long. */
  readonly idleMs?: number
}

/** What became of a portion that was asked for. */
export interface DealtPortion {
  /** How many entries do not wait there any more: those dealt, and those that were gone. */
  readonly handled: number
  readonly mayBeMore: boolean
  /** How long what was asked for is kept from this client. */
  readonly waitMs: number
}

export interface DealtEntries extends DealtPortion {
  readonly entries: readonly ReadableEntry[]
  /** How long each entry has waited, by its id. */
  readonly waitedMs: ReadonlyMap<string, number>
}

export class Dealer {
  readonly #context: DealerContext

  constructor(context: DealerContext) {
    this.#context = context
  }

  /**
   * Has a portion dealt: with `take` the entries are pending under this session now, with `tell` they wait until the
   * application has claimed them or its time is over. Those that cannot be served go to the dead letters. Rejects with
   * SESSION_LOST, REDIS_ERROR.
   */
  async deal(portion: Portion, mode: DealRules['mode']): Promise<DealtEntries> {
    const { claimStaggerMs, deadLetters, heartbeatTtlMs, lbs, lbsIdleTimeMs, session } = this.#context
    const dealt = await this.#send(portion, {
      mode,
      idleMs: portion.idleMs ?? 0,
      tellMs: Math.max(STAGGERS_TO_CLAIM * claimStaggerMs, LEAST_TIME_TO_CLAIM_MS),
      tellAgainMs: heartbeatTtlMs,
      greatestMs: lbsIdleTimeMs,
    })
    const { gone, mayBeMore, waitMs } = dealt
    if (gone > 0) this.#context.onGone()
    const entries = await lbs.decode(dealt.entries)
    await deadLetters.buryUnreadable(session, entries.filter(isUnreadable))
    return {
      entries: entries.filter(isReadable),
      waitedMs: new Map(entries.map(({ id }, index) => [id, dealt.waitedMs[index] as number])),
      handled: entries.length + gone,
      mayBeMore,
      waitMs,
    }
  }

  async #send({ count, from }: Portion, rules: DealRules) {
    const { onLeftPending, retries, scripts, session } = this.#context
    let tries = 0
    const dealt = await retries.send('have entries dealt', session, () => {
      if (tries++ > 0) onLeftPending()
      return scripts.deal(session, from, count, rules)
    })
    if (dealt === 'SESSION_LOST') throw endLost('have entries dealt', session)
    return dealt
  }
}
