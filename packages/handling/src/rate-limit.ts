/**
 * The rate limit: how many records may begin in a time, in this process and in the whole service. Records wait in one
 * queue, and those at its front begin, as many as there are permits.
 */
import {
  backoffMs,
  type Connection,
  messageOf,
  type SafeLogger,
  sleep,
} from '@redis-stream-client/client/internal'
import { Fifo } from '@redis-stream-client/notifs/internal'
import { type Rate, type ResolvedRate, resolveRate } from './rate.js'
import { type Portion, ServicePermits } from './service-permits.js'
import { TokenBucket } from './token-bucket.js'

export interface RateLimitOptions {
  /** For this worker. */
  readonly process?: Rate | undefined
  /** For all workers of the service together. */
  readonly service?: Rate | undefined
}

export interface RateLimitContext {
  readonly options: RateLimitOptions
  /** Where the service's permits are. */
  readonly connection: Connection
  /** Hash with the service's permits. */
  readonly key: string
  readonly logger: SafeLogger
  readonly onWait: (event: { scope: Scope; waitMs: number }) => void
}

/** Lets one record begin. */
export interface Permit {
  /** The record was not begun after all. */
  giveBack(): void
}

type Scope = 'process' | 'service'

interface Waiter {
  readonly admit: (permit: Permit) => void
  isOver: boolean
}

/** What has come of letting records begin. */
interface Step {
  readonly pauseMs: number
  readonly isFailure: boolean
}

const FIRST_RETRY_MS = 20
const GREATEST_RETRY_MS = 1000

export class RateLimit {
  readonly #context: RateLimitContext
  readonly #process: TokenBucket | null
  readonly #service: ServicePermits | null
  readonly #waiters = new Fifo<Waiter>()
  #waiting = 0
  #isPumping = false
  /** Aborts when nobody waits any more. */
  #nobodyWaits = new AbortController()

  constructor(context: RateLimitContext) {
    this.#context = context
    const { process, service } = context.options
    this.#process = process === undefined ? null : bucketOf(resolveRate(process))
    this.#service = service === undefined ? null : new ServicePermits(resolveRate(service), context)
  }

  /**
   * Waits until a record may begin, behind those that wait already. Resolves with null as soon as `signal` aborts: then the
   * record must not begin, because its stream is to be left. While Redis cannot be asked, none begins. Never rejects.
   */
  enter(signal: AbortSignal): Promise<Permit | null> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve(null)
      const settle = (permit: Permit | null): void => {
        signal.removeEventListener('abort', leave)
        waiter.isOver = true
        this.#waiting--
        if (this.#waiting === 0) this.#nobodyWaits.abort()
        resolve(permit)
      }
      const leave = (): void => settle(null)
      const waiter: Waiter = { admit: settle, isOver: false }
      signal.addEventListener('abort', leave, { once: true })
      this.#waiters.push(waiter)
      this.#waiting++
      if (!this.#isPumping) void this.#pump()
    })
  }

  /** Gives back what is not used, when no record begins any more. Never rejects. */
  async close(): Promise<void> {
    await this.#service?.giveBack()
  }

  async #pump(): Promise<void> {
    this.#isPumping = true
    for (let failures = 0; this.#waiting > 0; ) {
      const { isFailure, pauseMs } = await this.#admit(failures)
      failures = isFailure ? failures + 1 : 0
      if (pauseMs > 0) await this.#pause(pauseMs)
    }
    this.#waiters.clear() // those in it have left
    this.#isPumping = false
  }

  /** Lets as many begin as there are permits; answers how long to wait before trying again. */
  async #admit(failures: number): Promise<Step> {
    const own = this.#process?.look(performance.now(), this.#waiting)
    if (own !== undefined && own.permits === 0) return this.#wait('process', own.waitMs)
    const wanted = own?.permits ?? this.#waiting
    let portion: Portion | null = null
    if (this.#service !== null) {
      try {
        const answer = await this.#service.take(wanted)
        if ('waitMs' in answer) return this.#wait('service', answer.waitMs)
        portion = answer.portion
      } catch (error) {
        const facts = { scope: 'service', error: messageOf(error) }
        this.#context.logger.debug(facts, 'the rate limit cannot be asked')
        return { pauseMs: backoffMs(failures, FIRST_RETRY_MS, GREATEST_RETRY_MS), isFailure: true }
      }
    }
    for (let n = 0; n < wanted && portion?.left !== 0 && this.#waiting > 0; n++) this.#begin(portion)
    return { pauseMs: 0, isFailure: false }
  }

  /** Lets the first of those that wait begin. */
  #begin(portion: Portion | null): void {
    let waiter = this.#waiters.shift() as Waiter
    while (waiter.isOver) waiter = this.#waiters.shift() as Waiter
    this.#process?.take(1)
    if (portion !== null) portion.left--
    waiter.admit({
      giveBack: () => {
        this.#process?.giveBack()
        if (portion !== null) portion.left++
      },
    })
  }

  #wait(scope: Scope, waitMs: number): Step {
    const pauseMs = Math.max(1, Math.ceil(waitMs))
    this.#context.onWait({ scope, waitMs: pauseMs })
    return { pauseMs, isFailure: false }
  }

  async #pause(ms: number): Promise<void> {
    if (this.#nobodyWaits.signal.aborted) this.#nobodyWaits = new AbortController()
    if (this.#waiting > 0) await sleep(ms, this.#nobodyWaits.signal)
  }
}

function bucketOf({ burst, perMs, records }: ResolvedRate): TokenBucket {
  return new TokenBucket({ capacity: burst, intervalMs: perMs / records }, performance.now())
}
