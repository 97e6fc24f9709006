/** One Lua script: sent by its hash, and whole to a server that does not know it yet. */
import { createHash } from 'node:crypto'
import type { RedisLike } from './connection.js'
import { isReply, nameForbidden } from './redis-errors.js'

export class Script {
  readonly #lua: string
  readonly #hash: string

  constructor(lua: string) {
    this.#lua = lua
    this.#hash = createHash('sha1').update(lua).digest('hex')
  }

  /**
   * Runs it and waits until `count` replicas have what it wrote, for `timeoutMs` at most, on the same connection.
   * Answers what the script did, and how many replicas have it.
   */
  async runReplicated(
    redis: RedisLike,
    keys: readonly (string | Buffer)[],
    args: readonly (string | Buffer)[],
    { count, timeoutMs }: { readonly count: number; readonly timeoutMs: number },
  ): Promise<{ answer: unknown; acknowledged: number }> {
    for (const isKnown of [true, false]) {
      const pipeline = redis.pipeline()
      if (isKnown) pipeline.evalsha(this.#hash, keys.length, ...keys, ...args)
      else pipeline.eval(this.#lua, keys.length, ...keys, ...args)
      const results = (await pipeline.wait(count, timeoutMs).exec()) ?? []
      const [[error, answer] = [], [waitError, acknowledged] = []] = results
      if (isKnown && isReply(error, 'NOSCRIPT')) continue
      const problem = error ?? waitError
      if (problem) throw nameForbidden(problem, this.#lua)
      return { answer, acknowledged: Number(acknowledged) }
    }
    throw new TypeError('a server that does not know a script it was sent')
  }

  async run(
    redis: RedisLike,
    keys: readonly (string | Buffer)[],
    args: readonly (string | Buffer)[],
  ): Promise<unknown> {
    try {
      return await this.#send(redis, keys, args)
    } catch (error) {
      throw nameForbidden(error, this.#lua)
    }
  }

  async #send(
    redis: RedisLike,
    keys: readonly (string | Buffer)[],
    args: readonly (string | Buffer)[],
  ): Promise<unknown> {
    try {
      return await redis.evalsha(this.#hash, keys.length, ...keys, ...args)
    } catch (error) {
      if (!isReply(error, 'NOSCRIPT')) throw error
      return await redis.eval(this.#lua, keys.length, ...keys, ...args)
    }
  }
}
