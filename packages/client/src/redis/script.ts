/** One Lua script: sent by its hash, and whole to a server that does not know it yet. */
import { createHash } from 'node:crypto'
import type { ChainableCommander } from 'ioredis'
import type { RedisLike } from './duplicate.js'
import { isReply, nameForbidden } from './redis-errors.js'

export class Script {
  readonly #lua: string
  readonly #hash: string

  constructor(lua: string) {
    this.#lua = lua
    this.#hash = createHash('sha1').update(lua).digest('hex')
  }

  /** Adds it to a pipeline: by its hash if the server knows it already. */
  addTo(
    pipeline: ChainableCommander,
    keys: readonly (string | Buffer)[],
    args: readonly (string | Buffer)[],
    isKnown: boolean,
  ): void {
    if (isKnown) pipeline.evalsha(this.#hash, keys.length, ...keys, ...args)
    else pipeline.eval(this.#lua, keys.length, ...keys, ...args)
  }

  /** Names the command that an error of this script is about, where Redis does not. */
  explain(error: unknown): unknown {
    return nameForbidden(error, this.#lua)
  }

  /** `inBuffers`: every text of the answer is a Buffer, for what need not be UTF-8. */
  async run(
    redis: RedisLike,
    keys: readonly (string | Buffer)[],
    args: readonly (string | Buffer)[],
    { inBuffers = false }: { readonly inBuffers?: boolean } = {},
  ): Promise<unknown> {
    const all = [keys.length, ...keys, ...args] as const
    try {
      return await (inBuffers
        ? redis.callBuffer('evalsha', this.#hash, ...all)
        : redis.evalsha(this.#hash, ...all))
    } catch (error) {
      if (!isReply(error, 'NOSCRIPT')) throw this.explain(error)
    }
    try {
      return await (inBuffers ? redis.callBuffer('eval', this.#lua, ...all) : redis.eval(this.#lua, ...all))
    } catch (error) {
      throw this.explain(error)
    }
  }
}
