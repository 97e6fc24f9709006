/** Says where the Redis server is, as the launcher and the tests do, where nobody has yet. */
import { asEnv, findRedisServer } from '@redis-stream-client/testing/internal'

export function findRedis(): void {
  if (process.env['REDIS_SERVER_BIN']) return
  Object.assign(process.env, asEnv(findRedisServer({ log: (line) => process.stderr.write(`${line}\n`) })))
}
