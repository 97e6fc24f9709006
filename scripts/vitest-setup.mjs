/** Runs once before the tests: their workers inherit where the Redis server is. */
import { asEnv, findRedisServer } from './find-redis.mjs'

export default function setup() {
  Object.assign(process.env, asEnv(findRedisServer({ log: (line) => process.stderr.write(`${line}\n`) })))
}
