import * as client from '@redis-stream-client/client'
import * as worker from '@redis-stream-client/worker'
import { Redis } from 'ioredis'
import { use } from './use.cjs'

console.log(await use({ ...client, ...worker }, Redis, process.env.REDIS_URL))
