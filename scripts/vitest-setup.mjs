/**
 * Runs once before the tests: their workers inherit where the Redis server is, and where PostgreSQL is, if it is here.
 *
 * Nothing is fetched for the tests that need PostgreSQL, they are skipped then. With POSTGRES=required it is fetched, and the
 * run fails without it.
 */
import { asEnv, findRedisServer } from '../packages/testing/src/server/find-redis.js'
import { accountOfServer, findPostgres } from './find-postgres.mjs'

export default function setup() {
  Object.assign(process.env, asEnv(findRedisServer({ log: say })), postgresEnv())
}

function postgresEnv() {
  const isRequired = process.env.POSTGRES === 'required'
  try {
    const { binDir, libraryPath } = findPostgres({ download: isRequired, log: say })
    const account = accountOfServer()
    return {
      POSTGRES_BIN_DIR: binDir,
      POSTGRES_LIBRARY_PATH: libraryPath,
      ...(account === null ? {} : { POSTGRES_ACCOUNT: JSON.stringify(account) }),
    }
  } catch (error) {
    if (isRequired)
      throw new Error(`POSTGRES=required, and there is none: ${error.message}`, { cause: error })
    say(`No PostgreSQL, its tests are SKIPPED (POSTGRES=required fetches it): ${error.message}`)
    return { POSTGRES_MISSING: error.message }
  }
}

function say(line) {
  process.stderr.write(`${line}\n`)
}
