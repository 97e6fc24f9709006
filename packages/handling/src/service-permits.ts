/**
 * The permits of a rate limit that several processes share: a token bucket in Redis, by the clock of Redis.
 *
 * A process takes a portion at a time, so that there is no round trip for each record. What it holds beyond the records
 * that wait may be used for `holdMs` only, and the bucket is smaller than `burst` by what is refilled in that time: so
 * permits that are used later than they were taken are within the burst. A portion grows while portions are used up in
 * time, and shrinks to what was used when one was not.
 */
import { type Connection, Script, startTimer } from '@redis-stream-client/client/internal'
import type { ResolvedRate } from './rate.js'
import { takePermitsLua } from './redis/lua.generated.js'
import type { BucketShape } from './token-bucket.js'

const script = new Script(takePermitsLua)
/** Part of the burst that is kept for permits that are held. */
const HELD_SHARE = 1 / 4
const GREATEST_HOLD_MS = 1000

/** Permits that were taken in one call. */
export interface Portion {
  left: number
  readonly size: number
  readonly takenUs: number
  /** Of the monotonic clock. */
  readonly expiresAtMs: number
}

/** What is given back of a portion. */
type Unused = Pick<Portion, 'left' | 'takenUs'>

export type PortionAnswer = { readonly portion: Portion } | { readonly waitMs: number }

/** How the burst of a limit is divided between the bucket and what is held. */
export function divideBurst({ burst, perMs, records }: ResolvedRate): BucketShape & { holdMs: number } {
  const intervalMs = perMs / records
  const held = Math.min(Math.floor(burst * HELD_SHARE), Math.floor(GREATEST_HOLD_MS / intervalMs))
  return { capacity: burst - held, intervalMs, holdMs: held * intervalMs }
}

export class ServicePermits {
  readonly #connection: Connection
  readonly #key: string
  readonly #shape: BucketShape & { readonly holdMs: number }
  #portion: Portion | null = null
  /** How many are asked for when fewer records wait. */
  #ahead = 1
  #expiry: NodeJS.Timeout | undefined

  constructor(rate: ResolvedRate, { connection, key }: { connection: Connection; key: string }) {
    this.#connection = connection
    this.#key = key
    this.#shape = divideBurst(rate)
  }

  /**
   * The portion from which records may begin now, up to what is left of it: the one that is held, or a new one for
   * `waiting` records; or how long to wait before asking again. Rejects with what the call rejects with. Permits whose
   * answer is lost are lost: a call is never sent again, because that could give out too many.
   */
  async take(waiting: number): Promise<PortionAnswer> {
    const held = this.#portion
    if (held !== null && held.left > 0 && performance.now() < held.expiresAtMs) return { portion: held }
    const { capacity, holdMs, intervalMs } = this.#shape
    const unused = this.#forget()
    const wanted = Math.min(capacity, holdMs > 0 ? Math.max(waiting, this.#ahead) : waiting)
    const askedAtMs = performance.now()
    const [size, waitUs, takenUs] = await this.#call(wanted, unused)
    // A little later there are permits for more of the waiting records in one call.
    if (size === 0) return { waitMs: waitUs / 1000 + Math.min((waiting - 1) * intervalMs, holdMs) }
    const portion = { left: size, size, takenUs, expiresAtMs: askedAtMs + holdMs }
    this.#portion = portion
    if (size > waiting) this.#expiry = startTimer(holdMs, () => void this.giveBack()).unref()
    return { portion }
  }

  /** Gives back what is held and not used. Never rejects: what cannot be given back is lost. */
  async giveBack(): Promise<void> {
    if (this.#portion === null || this.#portion.left === 0) return
    await this.#call(0, this.#forget()).catch(() => undefined)
  }

  /** Takes permits, and gives others back, in one call. */
  async #call(
    wanted: number,
    { left, takenUs }: Unused,
  ): Promise<[size: number, waitUs: number, takenUs: number]> {
    const { capacity, intervalMs } = this.#shape
    const args = [intervalMs * 1000, capacity, wanted, left, takenUs]
    const answer = await this.#connection.run((redis) => script.run(redis, [this.#key], args.map(String)))
    const [size, waitUs, nowUs] = (answer as (number | string)[]).map(Number) as [number, number, number]
    return [size, waitUs, nowUs]
  }

  /** The portion ends here, and the next one follows from how much of it was used. */
  #forget(): Unused {
    clearTimeout(this.#expiry)
    const portion = this.#portion
    this.#portion = null
    if (portion === null) return { left: 0, takenUs: 0 }
    const isUsedUp = portion.left === 0 && performance.now() < portion.expiresAtMs
    this.#ahead = isUsedUp ? 2 * portion.size : Math.max(1, portion.size - portion.left)
    return portion
  }
}
