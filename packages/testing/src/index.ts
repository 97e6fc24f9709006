/** @redis-stream-client/testing: what the tests of a service need. */
export { type FakeExpiredOptions, FakeNotifications } from './fake-notifications.js'
export { FakeStream, type FakeStreamCall, type FakeStreamOptions } from './fake-stream.js'
export {
  type HandlerCall,
  type HandlerResult,
  type RunHandlerOptions,
  runHandler,
  type TestRecord,
} from './run-handler.js'
export { type StartRedisOptions, startRedis, type TestRedis } from './start-redis.js'
export { TESTING_ERROR_CODES, TestingError, type TestingErrorCode } from './testing-error.js'
