/**
 * Slow tidying by whoever has won a probe round: dead consumers without pending entries are removed from the group
 * after `consumerRetentionMs`; streams are freed whose record is dead or reserved and whose entry has left the LBS.
 */

import type { LockRecords } from '../redis/lock-records.js'
import { BATCH_LIMIT, type RosterLine, type ServiceScripts } from '../redis/service-scripts.js'

/** One page of the lock table in this many rounds, unless somebody has met an entry that is gone. */
const ROUNDS_PER_PAGE = 10
const PAGE = 500

export interface HousekeepingContext {
  readonly scripts: ServiceScripts
  readonly records: LockRecords
  readonly consumerRetentionMs: number
}

export class Housekeeping {
  readonly #context: HousekeepingContext
  #cursor = '0'
  #round = 0
  #isSweepWanted = false

  constructor(context: HousekeepingContext) {
    this.#context = context
  }

  /** Asks for the whole lock table to be gone through in the next round. */
  requestSweep(): void {
    this.#isSweepWanted = true
  }

  async tidy(roster: readonly RosterLine[], signal: AbortSignal): Promise<void> {
    const isWhole = this.#isSweepWanted
    this.#isSweepWanted = false
    if (!isWhole && this.#round++ % ROUNDS_PER_PAGE !== 0) return
    await this.#removeConsumers(roster)
    do {
      await this.#sweepPage(roster)
    } while (isWhole && this.#cursor !== '0' && !signal.aborted)
  }

  async #removeConsumers(roster: readonly RosterLine[]): Promise<void> {
    const { consumerRetentionMs, scripts } = this.#context
    const old = roster
      .filter((line) => !line.isAlive && line.pending === 0 && line.idleMs >= consumerRetentionMs)
      .map((line) => line.consumer)
    for (let start = 0; start < old.length; start += BATCH_LIMIT) {
      await scripts.removeConsumers(old.slice(start, start + BATCH_LIMIT), consumerRetentionMs)
    }
  }

  async #sweepPage(roster: readonly RosterLine[]): Promise<void> {
    const { records, scripts } = this.#context
    const living = new Set(roster.filter((line) => line.isAlive).map((line) => line.consumer))
    const { next, records: page } = await records.page(this.#cursor, PAGE)
    this.#cursor = next
    const suspects = [...page]
      .filter(([, record]) => record !== null && (record.consumer === null || !living.has(record.consumer)))
      .map(([dataStreamName]) => dataStreamName)
    for (let start = 0; start < suspects.length; start += BATCH_LIMIT) {
      await scripts.sweep(suspects.slice(start, start + BATCH_LIMIT))
    }
  }
}
