/** Runs once before the tests: their workers inherit where the Redis server is. */
import { asEnv, findRedisServer } from '../packages/testing/src/server/find-redis.js'

export default function setup() {
  Object.assign(process.env, asEnv(findRedisServer({ log: (line) => process.stderr.write(`${line}\n`) })))
}
