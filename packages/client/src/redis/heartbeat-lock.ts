/**
 * The lock that holds a session, on redlock: one key with a random token and a TTL.
 * The only file that knows redlock (5.0.0-beta.2) and its ways.
 */
import Redlock, { ExecutionError, type Lock, ResourceLockedError } from 'redlock'
import type { RedisLike } from './duplicate.js'
import { nameForbidden } from './redis-errors.js'

/**
 * redlock's own script writes the key anew, which a server whose memory is full refuses: every client would lose its
 * session, and with it the streams it could still finish.
 */
const EXTEND_LUA = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
  end
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`

export class HeartbeatLock {
  readonly #redlock: Redlock
  readonly #key: string
  readonly #ttlMs: number
  #acquireLua = ''
  #lock: Lock | undefined

  constructor(redis: RedisLike, key: string, ttlMs: number) {
    // redlock's own retries wait longer than the TTL; whoever calls decides when to try again.
    const settings = { retryCount: 0, driftFactor: 0 }
    this.#redlock = new Redlock([redis], settings, {
      acquireScript: (lua) => {
        this.#acquireLua = lua
        return lua
      },
      extendScript: () => EXTEND_LUA,
    })
    this.#key = key
    this.#ttlMs = ttlMs
  }

  /**
   * Takes the key. Resolves with the token, or null if somebody else holds it. Rejects with the error of the
   * connection; the key may then be taken under a token nobody knows, until its TTL is over.
   */
  async acquire(): Promise<string | null> {
    try {
      this.#lock = await this.#redlock.acquire([this.#key], this.#ttlMs)
      return this.#lock.value
    } catch (error) {
      await rethrowUnlessHeld(error, this.#acquireLua)
      return null
    }
  }

  /** Renews the TTL. Resolves with false if the key holds another token or none; rejects if nobody answered. */
  async extend(): Promise<boolean> {
    const lock = this.#lock
    if (lock === undefined) throw new TypeError('extend before acquire')
    // redlock would refuse by its own wall clock without asking Redis. How long to trust is decided elsewhere.
    lock.expiration = Number.POSITIVE_INFINITY
    try {
      this.#lock = await this.#redlock.extend(lock, this.#ttlMs)
      return true
    } catch (error) {
      await rethrowUnlessHeld(error, EXTEND_LUA)
      return false
    }
  }
}

/** redlock says "held by another" and "no answer" with the same error; the votes of its only try tell them apart. */
async function rethrowUnlessHeld(error: unknown, lua: string): Promise<void> {
  if (!(error instanceof ExecutionError)) throw error
  const votes = await error.attempts[0]
  for (const vote of votes?.votesAgainst.values() ?? []) {
    if (vote instanceof ResourceLockedError) return
    throw nameForbidden(vote, lua)
  }
  throw error
}
