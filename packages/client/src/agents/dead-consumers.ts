/**
 * Removes the consumers of dead sessions from the group. Each session is a consumer of its own, so a process that
 * crashes and starts again leaves a name behind each time, and reading the consumers takes longer with each of them.
 */
import type { SafeLogger } from '../logger.js'
import type { ConsumerInfo, Lbs } from '../redis/lbs.js'
import { messageOf } from '../redis/redis-errors.js'
import { BATCH_LIMIT, type ServiceScripts } from '../redis/service-scripts.js'
import type { Session } from '../session/session.js'

/** Consumers a group may have before a session that begins removes dead ones that are not old yet. */
const CONSUMERS_KEPT = 100
/** How many more living than dead consumers a session meets before it stops looking for dead ones. */
const LIVING_IN_EXCESS = 100

export interface DeadConsumersContext {
  readonly lbs: Lbs
  readonly scripts: ServiceScripts
  readonly consumerRetentionMs: number
  readonly logger: SafeLogger
}

export class DeadConsumers {
  readonly #context: DeadConsumersContext

  constructor(context: DeadConsumersContext) {
    this.#context = context
  }

  /**
   * For the beginning of a session, before it adds a consumer of its own. Keeps the group at about twice as many consumers
   * as there are living ones, and a hundred more, however often sessions begin: it goes on as long as it finds at least
   * as many dead ones as living ones. Never rejects: a session can do without.
   */
  async removeExcess(session: Session): Promise<void> {
    const { lbs, logger } = this.#context
    try {
      const consumers = await lbs.consumers()
      const idle = consumers.filter(({ pending }) => pending === 0).sort(byToken)
      let excess = consumers.length - CONSUMERS_KEPT
      let lead = LIVING_IN_EXCESS
      for (let start = 0; start < idle.length && excess > 0 && lead >= 0; start += BATCH_LIMIT) {
        if (!session.isHeld()) return
        const { alive, removed } = await this.#remove(idle.slice(start, start + BATCH_LIMIT))
        excess -= removed
        lead += removed - alive
      }
    } catch (error) {
      logger.debug({ error: messageOf(error) }, 'dead consumers could not be removed')
    }
  }

  /** Removes those that have been silent for `consumerRetentionMs`. */
  async removeOld(): Promise<void> {
    const { consumerRetentionMs, lbs } = this.#context
    const old = (await lbs.consumers()).filter(
      ({ idleMs, pending }) => pending === 0 && idleMs >= consumerRetentionMs,
    )
    for (let start = 0; start < old.length; start += BATCH_LIMIT) {
      await this.#remove(old.slice(start, start + BATCH_LIMIT))
    }
  }

  async #remove(consumers: readonly ConsumerInfo[]): Promise<{ alive: number; removed: number }> {
    const answers = await this.#context.scripts.removeConsumers(consumers.map(({ name }) => name))
    const count = (wanted: string): number => answers.filter((answer) => answer === wanted).length
    return { alive: count('ALIVE'), removed: count('REMOVED') }
  }
}

/** Tokens are random, so in this order the living and the dead are mixed. */
function byToken(a: ConsumerInfo, b: ConsumerInfo): number {
  const [left, right] = [a, b].map(({ name }) => name.slice(name.lastIndexOf(':') + 1)) as [string, string]
  return left < right ? -1 : 1
}
