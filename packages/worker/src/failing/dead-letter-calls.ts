/**
 * Tells the application of dead letters (`onDeadLetter`), each at least once, whichever worker of the service has written it.
 *
 * A consumer group on the stream of dead letters keeps who has been told: a letter is pending in it from the first call on, and
 * acknowledged when a call succeeds. So one whose call failed, or whose caller died, is called again by whoever finds it idle
 * for longer than its backoff. While a call runs the letter is kept from becoming idle.
 */
import { StreamClientError } from '@redis-stream-client/client'
import {
  backoffMs,
  type Connection,
  isReply,
  isTransient,
  messageOf,
  redisError,
  type SafeLogger,
  Script,
  sleep,
} from '@redis-stream-client/client/internal'
import {
  Attempt,
  type AttemptLimits,
  type DeadRecord,
  DeadRecords,
  describeError,
} from '@redis-stream-client/handling'
import type { DeadLetterContext } from '../contract/record-context.js'
import { takeLetterLua } from '../redis/lua.generated.js'

const script = new Script(takeLetterLua)

export interface DeadLetterRetry {
  readonly attempts: number
  readonly initialDelayMs: number
  readonly maxDelayMs: number
  readonly factor: number
}

export interface DeadLetterCallsContext {
  readonly connection: Connection
  /** Stream of the dead letters. */
  readonly key: string
  readonly group: string
  readonly onDeadLetter: (letter: DeadRecord, context: DeadLetterContext) => unknown
  readonly retry: DeadLetterRetry
  readonly timeoutMs: number
  readonly abandonAfterMs: number
  readonly logger: SafeLogger
  readonly emit: (event: 'error', error: Error) => void
}

/** All workers of the service are one consumer: a letter belongs to whoever keeps it from becoming idle. */
const CONSUMER = 'workers'
const PENDING_PAGE = 20
const GREATEST_POLL_MS = 5000
const FIRST_PAUSE_MS = 100
const GREATEST_PAUSE_MS = 5000

export class DeadLetterCalls {
  readonly #context: DeadLetterCallsContext
  readonly #limits: AttemptLimits<DeadRecord>
  #cursor = '-'
  #attempt: Attempt<DeadRecord> | null = null
  #wake = new AbortController()

  constructor(context: DeadLetterCallsContext) {
    const { abandonAfterMs, timeoutMs } = context
    this.#context = context
    this.#limits = { abandonAfterMs, timeoutMs, timedOut }
  }

  /** Letters are owed from now on. Before the first worker with `onDeadLetter` none is. Rejects with REDIS_ERROR. */
  async open(): Promise<void> {
    await this.#createGroup('$')
  }

  /** A letter was written. */
  notice(): void {
    this.#wake.abort()
  }

  /** Calls `onDeadLetter` until the signal aborts, one letter at a time. */
  async run(signal: AbortSignal): Promise<void> {
    const pollMs = Math.min(this.#context.retry.initialDelayMs, GREATEST_POLL_MS)
    const stop = (): void => {
      this.#attempt?.abort('drain', new StreamClientError('CLOSED', 'the worker is closing'))
      this.#wake.abort()
    }
    signal.addEventListener('abort', stop, { once: true })
    for (let failures = 0; !signal.aborted; ) {
      let pauseMs = pollMs
      this.#wake = new AbortController()
      try {
        while (!signal.aborted && (await this.#callNext())) failures = 0
      } catch (error) {
        pauseMs = backoffMs(failures, FIRST_PAUSE_MS, GREATEST_PAUSE_MS)
        const problem = isReply(error, 'NOGROUP') ? await this.#makeGroupAgain() : error
        this.#report(problem, failures++ === 0)
      }
      if (!signal.aborted) await sleep(pauseMs, this.#wake.signal)
    }
    signal.removeEventListener('abort', stop)
  }

  /** The stream was deleted, and its group with it. Answers what went wrong, or null. */
  async #makeGroupAgain(): Promise<unknown> {
    try {
      await this.#createGroup('0')
      return null
    } catch (error) {
      return error
    }
  }

  /** What does not pass by itself is said aloud, once: a missing permission, or a key that holds something else. */
  #report(problem: unknown, isFirst: boolean): void {
    if (problem === null) return
    const { logger } = this.#context
    const facts = { error: messageOf(problem) }
    if (isFirst && !isTransient(problem)) logger.warn(facts, 'onDeadLetter cannot be called, trying on')
    else logger.debug(facts, 'onDeadLetter cannot be called')
  }

  /** False if no letter is due. */
  async #callNext(): Promise<boolean> {
    const { connection, group, key, retry } = this.#context
    const { factor, initialDelayMs, maxDelayMs } = retry
    const args = [group, CONSUMER, initialDelayMs, factor, maxDelayMs, this.#cursor, PENDING_PAGE].map(String)
    const answer = await connection.run((redis) => script.run(redis, [key], args))
    const [id, call, cursor] = answer as [id: string | null, call: number, cursor: string]
    this.#cursor = cursor
    if (id === null) return cursor !== '-'
    const found = await connection.run((redis) => new DeadRecords(redis, key).find('onDeadLetter', id))
    if (found === null || (await this.#call(found, Number(call)))) {
      await connection.run((redis) => redis.xack(key, group, id))
    }
    return true
  }

  /** True if the application need not be told of this letter again. */
  async #call(letter: DeadRecord, call: number): Promise<boolean> {
    const { emit, logger, onDeadLetter, retry } = this.#context
    const attempt = new Attempt({ records: [letter], isLast: false }, call, this.#limits)
    this.#attempt = attempt
    const keeping = setInterval(() => this.#keep(letter.id), retry.initialDelayMs / 3)
    const context: DeadLetterContext = {
      attempt: call,
      get signal() {
        return attempt.signal
      },
    }
    const outcome = await attempt.run(onDeadLetter, letter, context)
    clearInterval(keeping)
    this.#attempt = null
    if (outcome.type !== 'failed') return outcome.type === 'ok'
    const isGivenUp = call >= retry.attempts
    const facts = { letter: letter.id, call, error: describeError(outcome.error) }
    logger.error(facts, isGivenUp ? 'onDeadLetter has failed for the last time' : 'onDeadLetter has failed')
    emit('error', outcome.error instanceof Error ? outcome.error : new Error(describeError(outcome.error)))
    return isGivenUp
  }

  /** Keeps a letter from becoming idle, which would give it to another worker. */
  #keep(id: string): void {
    const { connection, group, key, logger } = this.#context
    connection
      .run((redis) => redis.call('XCLAIM', [key, group, CONSUMER, 0, id, 'JUSTID']))
      .catch((error: unknown) =>
        logger.debug({ letter: id, error: messageOf(error) }, 'a letter is not kept'),
      )
  }

  async #createGroup(start: '$' | '0'): Promise<void> {
    const { connection, group, key } = this.#context
    try {
      await connection.run((redis) => redis.xgroup('CREATE', key, group, start, 'MKSTREAM'))
    } catch (error) {
      if (!isReply(error, 'BUSYGROUP')) throw redisError(`making the group of ${key}`, error)
    }
  }
}

function timedOut([letter]: readonly DeadRecord[], timeoutMs: number): Error {
  return new Error(`onDeadLetter has not ended within ${timeoutMs} ms for letter ${letter?.id}`)
}
