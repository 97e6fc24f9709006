/**
 * The rate limit: how many records may begin in a time, in this process and in the whole service.
 * rate-limiter-flexible counts; this file is the only one that knows it. Records ask one after the other.
 */
import {
  backoffMs,
  type Connection,
  messageOf,
  type SafeLogger,
  sleep,
} from '@redis-stream-client/client/internal'
import {
  type RateLimiterAbstract,
  RateLimiterMemory,
  RateLimiterRedis,
  RateLimiterRes,
} from 'rate-limiter-flexible'

export interface RateLimitOptions {
  /** For this worker. */
  readonly process?: Rate | undefined
  /** For all workers of the service together. */
  readonly service?: Rate | undefined
}

export interface Rate {
  readonly records: number
  /** Whole seconds. */
  readonly perMs: number
}

export interface RateLimitContext {
  readonly options: RateLimitOptions
  /** Where the service's records are counted. */
  readonly connection: Connection
  readonly keyPrefix: string
  readonly logger: SafeLogger
  readonly onWait: (event: { scope: Scope; waitMs: number }) => void
}

type Scope = 'process' | 'service'

const KEY = 'records'
const FIRST_RETRY_MS = 20
const GREATEST_RETRY_MS = 1000

export class RateLimit {
  readonly #context: RateLimitContext
  readonly #limiters: { readonly scope: Scope; readonly limiter: RateLimiterAbstract }[] = []
  #tail: Promise<unknown> = Promise.resolve()

  constructor(context: RateLimitContext) {
    this.#context = context
    const { process, service } = context.options
    if (process !== undefined) {
      this.#limiters.push({ scope: 'process', limiter: new RateLimiterMemory(perSeconds(process)) })
    }
    if (service !== undefined) {
      const limiter = new RateLimiterRedis({
        ...perSeconds(service),
        storeClient: context.connection.redis,
        keyPrefix: context.keyPrefix,
      })
      this.#limiters.push({ scope: 'service', limiter })
    }
  }

  /**
   * Waits until a record may begin. Resolves as soon as `signal` aborts, too, and then the record must not begin: its
   * stream is to be left, and must not wait for those before it in the queue. Never rejects.
   */
  async enter(signal: AbortSignal): Promise<void> {
    const entered = this.#tail.then(() => this.#enter(signal))
    this.#tail = entered
    await unlessAborted(entered, signal)
  }

  async #enter(signal: AbortSignal): Promise<void> {
    for (const { scope, limiter } of this.#limiters) {
      for (let failures = 0; !signal.aborted; ) {
        const waitMs = await this.#consume(scope, limiter, failures)
        if (waitMs === null) break
        failures++
        await sleep(waitMs, signal)
      }
    }
  }

  /** Null if the record may begin, else how long to wait before asking again. Without an answer it may not. */
  async #consume(scope: Scope, limiter: RateLimiterAbstract, failures: number): Promise<number | null> {
    try {
      await limiter.consume(KEY)
      return null
    } catch (refusal) {
      if (refusal instanceof RateLimiterRes) {
        const waitMs = Math.max(1, refusal.msBeforeNext)
        this.#context.onWait({ scope, waitMs })
        return waitMs
      }
      this.#context.logger.debug({ scope, error: messageOf(refusal) }, 'the rate limit cannot be asked')
      return backoffMs(failures, FIRST_RETRY_MS, GREATEST_RETRY_MS)
    }
  }
}

/** Waits for `work`, but not beyond the abort. */
function unlessAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      signal.removeEventListener('abort', finish)
      resolve()
    }
    if (signal.aborted) return resolve()
    signal.addEventListener('abort', finish, { once: true })
    void work.then(finish)
  })
}

function perSeconds({ records, perMs }: Rate): { points: number; duration: number } {
  return { points: records, duration: perMs / 1000 }
}
