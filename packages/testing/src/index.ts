/** @redis-stream-client/testing: what the tests of a service need. */
export { type StartRedisOptions, startRedis, type TestRedis } from './start-redis.js'
export { TESTING_ERROR_CODES, TestingError, type TestingErrorCode } from './testing-error.js'
