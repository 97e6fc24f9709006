const client = require('@redis-stream-client/client')
const worker = require('@redis-stream-client/worker')
const { Redis } = require('ioredis')
const { use } = require('./use.cjs')

void use({ ...client, ...worker }, Redis, process.env.REDIS_URL).then(console.log)
