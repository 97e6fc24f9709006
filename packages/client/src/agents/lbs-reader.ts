/**
 * Reads new entries of the LBS and has them taken.
 *
 * What a server still answers to an abandoned read is pending under this session's consumer, and the reconciler finds it.
 * While batches of a backlog are being taken the next one is read. Nothing is read beyond what the client may own and the
 * notification queue can hold, and no more bytes at a time than can be foreseen to be harmless: see BatchSize.
 */

import { sleep } from '../async/sleep.js'
import { backoffMs } from '../decisions/backoff.js'
import { BatchSize } from '../decisions/batch-size.js'
import type { SafeLogger } from '../logger.js'
import type { StreamIntake } from '../ownership/stream-intake.js'
import { bytesOf, type Lbs, type LbsEntry, READ_BYTES } from '../redis/lbs.js'
import type { LbsFeed } from '../redis/lbs-feed.js'
import { isMissingGroup, isTransient, messageOf, redisError } from '../redis/redis-errors.js'
import { BATCH_LIMIT } from '../redis/service-scripts.js'
import type { Agent, AgentContext } from './agent.js'
import type { ReadingPace } from './reading-pace.js'

/** Batches that are being taken while the next one is read. */
const BATCHES_IN_HAND = 3
/**
 * So many full reads in a row show a backlog. Without one the next read is sent when the batch has been delivered: sent
 * before, it would delay that, and find nothing.
 */
const FULL_READS_OF_BACKLOG = 2
/** How often a client looks whether it may read more, see ReadingPace. */
const PACE_POLL_MS = 20
/** A client alone need not leave anything for others: it reads more at a time, up to what one script takes. */
const SHARE_ALONE = 5

export interface LbsReaderContext extends AgentContext {
  readonly feed: LbsFeed
  readonly lbs: Lbs
  readonly intake: StreamIntake
  readonly pace: ReadingPace
  readonly readCount: number
  /** Whether no other client of the service is known to be alive. */
  readonly isAlone: () => boolean
  readonly retry: {
    readonly maxRetries: number
    readonly initialDelayMs: number
    readonly maxDelayMs: number
  }
  readonly logger: SafeLogger
  /** A read may have been answered to nobody. */
  readonly onAbandonedRead: () => void
  /** The reader has given up. */
  readonly onExhausted: (error: Error) => void
}

export class LbsReader implements Agent {
  readonly #context: LbsReaderContext
  /** Reads in a row that brought as many entries as were asked for. */
  #fullReads = 0
  readonly #size = new BatchSize(READ_BYTES)

  constructor(context: LbsReaderContext) {
    this.#context = context
  }

  async run(): Promise<void> {
    const { feed, pace, signal } = this.#context
    pace.begin()
    const drop = (): void => feed.drop()
    signal.addEventListener('abort', drop, { once: true })
    const inHand: Promise<Error | null>[] = []
    while (!signal.aborted) {
      try {
        const entries = await this.#readNext()
        feed.note('read')
        if (signal.aborted) break // what is in memory is pending: whoever comes next finds it
        if (entries.length > 0) inHand.push(this.#serve(entries, inHand.at(-1)))
        while (inHand.length >= this.#batchesAtOnce) {
          const failure = await inHand.shift()
          if (failure) throw failure
        }
      } catch (error) {
        if (signal.aborted) break
        feed.note('failed')
        if (!(await this.#recover(error, feed.failures))) break
      }
    }
    feed.drop()
    signal.removeEventListener('abort', drop)
    for (const failure of await Promise.all(inHand)) {
      if (failure) this.#reportTaking(failure)
    }
  }

  /** With how many batches being taken nothing more is read. */
  get #batchesAtOnce(): number {
    return this.#fullReads < FULL_READS_OF_BACKLOG ? 1 : BATCHES_IN_HAND
  }

  async #readNext(): Promise<LbsEntry[]> {
    const { feed, lbs, pace, session, signal } = this.#context
    const room = await this.#awaitRoom()
    if (room === 0) return []
    await feed.open(signal)
    const count = this.#size.count(room)
    try {
      const raws = await feed.read(session.consumer, count)
      pace.noteRead(raws.length)
      // A young session asks for so little that a full answer says nothing about a backlog.
      this.#fullReads = raws.length < count || pace.isYoung ? 0 : this.#fullReads + 1
      if (raws.length === 0) this.#size.reset()
      else this.#size.hear(raws.map(bytesOf))
      return await lbs.decode(raws)
    } catch (error) {
      this.#size.fail(count)
      throw error
    }
  }

  /** Waits until something may be read; answers how much, 0 when the signal aborts. */
  async #awaitRoom(): Promise<number> {
    const { intake, pace, signal } = this.#context
    while (!signal.aborted) {
      const room = Math.min(await intake.awaitRoom(), this.#greatestCount(), pace.allowance)
      if (room > 0) return room
      await sleep(PACE_POLL_MS, signal)
    }
    return 0
  }

  #greatestCount(): number {
    const { isAlone, pace, readCount } = this.#context
    return isAlone() && !pace.isYoung
      ? Math.max(readCount, Math.min(BATCH_LIMIT, SHARE_ALONE * readCount))
      : readCount
  }

  /** Has a batch taken at once, and delivered after the one before. Resolves with what went wrong, or null. */
  async #serve(entries: readonly LbsEntry[], before: Promise<unknown> | undefined): Promise<Error | null> {
    try {
      await this.#context.intake.takeOwn(entries, before)
      return null
    } catch (error) {
      return error instanceof Error ? error : new Error(messageOf(error))
    }
  }

  /** After a failure: false if the reader has to give up. */
  async #recover(error: unknown, failures: number): Promise<boolean> {
    const { feed, logger, onAbandonedRead, onExhausted, retry, signal } = this.#context
    const facts = { error: messageOf(error), failures }
    const isUnexpected = !isTransient(error) && !isMissingGroup(error)
    if (isUnexpected && failures === 1) logger.warn(facts, 'the LBS cannot be read, trying on')
    else logger.debug(facts, 'reading the LBS failed')
    if (isMissingGroup(error) && (await this.#makeGroup()) && failures === 1) return true
    feed.drop()
    onAbandonedRead()
    if (retry.maxRetries >= 0 && failures > retry.maxRetries) {
      onExhausted(redisError(`reading the LBS failed ${failures} times in a row`, error))
      return false
    }
    await sleep(backoffMs(failures - 1, retry.initialDelayMs, retry.maxDelayMs), signal)
    return true
  }

  async #makeGroup(): Promise<boolean> {
    const { lbs, logger, session } = this.#context
    try {
      await lbs.ensureConsumer(session.consumer)
      return true
    } catch (error) {
      logger.debug({ error: messageOf(error) }, 'making the group failed')
      return false
    }
  }

  #reportTaking(error: unknown): void {
    this.#context.logger.debug(
      { error: messageOf(error) },
      'entries in hand were not taken, they stay pending',
    )
  }
}
