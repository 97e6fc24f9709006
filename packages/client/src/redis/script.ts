/** One Lua script: sent by its hash, and whole to a server that does not know it yet. */
import { createHash } from 'node:crypto'
import type { RedisLike } from './connection.js'
import { isReply } from './redis-errors.js'

export class Script {
  readonly #lua: string
  readonly #hash: string

  constructor(lua: string) {
    this.#lua = lua
    this.#hash = createHash('sha1').update(lua).digest('hex')
  }

  async run(
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
