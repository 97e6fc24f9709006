/**
 * Background cleanup, done by the winner of a probe round: dead consumers without pending entries are removed from the
 * group after `consumerRetentionMs`, and streams are freed whose owner is dead or nobody and whose entry has left the LBS.
 * Each page goes on where the last client has stopped, so that a pass through a long lock table comes to its end however
 * many clients there are and however often they are replaced.
 * A client that has met an entry which has left the LBS goes through the whole lock table at once, whether or not it wins
 * the round, because a backlog may be waiting.
 */
import { batchesOf } from '../decisions/batches.js'
import type { Connection } from '../redis/connection.js'
import type { LockRecords } from '../redis/lock-records.js'
import { BATCH_LIMIT, type RosterLine, type ServiceScripts } from '../redis/service-scripts.js'
import type { ServiceKeys } from '../service-keys.js'
import type { DeadConsumers } from './dead-consumers.js'

/** One page in this many rounds, whoever wins them. */
const ROUNDS_PER_PAGE = 10
const PAGE = 500

export interface HousekeepingContext {
  readonly scripts: ServiceScripts
  readonly records: LockRecords
  readonly deadConsumers: DeadConsumers
  readonly probeIntervalMs: number
  readonly connection: Connection
  readonly keys: ServiceKeys
}

export class Housekeeping {
  readonly #context: HousekeepingContext
  #isSweepWanted = false
  /** Until when nobody has anything to tidy: nothing is asked before. */
  #quietUntilMs = Number.NEGATIVE_INFINITY

  constructor(context: HousekeepingContext) {
    this.#context = context
  }

  /** An entry was met that has left the LBS: the stream it named may have to be freed. */
  requestSweep(): void {
    this.#isSweepWanted = true
  }

  /** Goes through the whole table if that was asked for. What fails is wanted again. */
  async sweepIfWanted(signal: AbortSignal): Promise<void> {
    if (!this.#isSweepWanted) return
    this.#isSweepWanted = false
    try {
      const roster = await this.#context.scripts.roster()
      let cursor = '0'
      do cursor = await this.#sweepPage(cursor, roster)
      while (cursor !== '0' && !signal.aborted)
    } catch (error) {
      this.#isSweepWanted = true
      throw error
    }
  }

  /** For the winner of a round. */
  async tidy(roster: readonly RosterLine[]): Promise<void> {
    const { connection, deadConsumers, keys, probeIntervalMs, records, scripts } = this.#context
    if (performance.now() < this.#quietUntilMs) return
    const pauseMs = ROUNDS_PER_PAGE * probeIntervalMs
    const text = await connection.run((redis) => redis.get(keys.housekeeping))
    const [, recordCursor = '0', memberCursor = '0', lastMs = '0'] =
      /^(\d+) (\d+) (\d+)$/.exec(text ?? '') ?? []
    // Another clock may have written it: one far ahead counts as long ago.
    const leftMs = pauseMs - Math.abs(Date.now() - Number(lastMs))
    this.#quietUntilMs = performance.now() + Math.max(0, leftMs)
    if (leftMs > 0) return
    const nextRecords = await this.#sweepPage(recordCursor, roster)
    const { clientIds, next: nextMembers } = await records.membersPage(memberCursor, BATCH_LIMIT)
    // Redis hands over a small hash as one page.
    for (let start = 0; start < clientIds.length; start += BATCH_LIMIT) {
      await scripts.forgetMembers(clientIds.slice(start, start + BATCH_LIMIT))
    }
    await connection.run((redis) =>
      redis.set(keys.housekeeping, `${nextRecords} ${nextMembers} ${Date.now()}`),
    )
    this.#quietUntilMs = performance.now() + pauseMs
    await deadConsumers.removeOld()
  }

  async #sweepPage(cursor: string, roster: readonly RosterLine[]): Promise<string> {
    const { records, scripts } = this.#context
    const living = new Set(roster.filter((line) => line.isAlive).map((line) => line.consumer))
    const { next, records: page } = await records.page(cursor, PAGE)
    const suspects = [...page]
      .filter(([, record]) => record !== null && (record.consumer === null || !living.has(record.consumer)))
      .map(([dataStreamName]) => dataStreamName)
    for (const batch of batchesOf(suspects, BATCH_LIMIT, (name) => Buffer.byteLength(name)))
      await scripts.sweep(batch)
    return next
  }
}
