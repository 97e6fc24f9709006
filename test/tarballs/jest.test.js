/* global test, expect */
const client = require('@redis-stream-client/client')
const worker = require('@redis-stream-client/worker')
const { Redis } = require('ioredis')
const { use } = require('./use.cjs')

test('a stream is owned and a record is handled', async () => {
  expect(await use({ ...client, ...worker }, Redis, process.env.REDIS_URL)).toBe('works')
})
