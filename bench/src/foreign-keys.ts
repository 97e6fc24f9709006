/** A cache in the same database: keys that live for an hour or two. */
import type { Redis } from 'ioredis'

const AT_ONCE = 10_000
const SET_LUA = `for i = ARGV[1], ARGV[2] do
  redis.call('SET', 'cache:' .. i, 'some value', 'PX', 3600000 + i * 3)
end`

export async function addForeignKeys(redis: Redis, count: number): Promise<void> {
  for (let first = 0; first < count; first += AT_ONCE) {
    await redis.eval(SET_LUA, 0, first, Math.min(first + AT_ONCE, count) - 1)
  }
}
