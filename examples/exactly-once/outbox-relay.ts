/**
 * Sends what is in the outbox. Run two of these, so that one is left when the other dies: REDIS_URL says where Redis is,
 * DATABASE_URL where PostgreSQL is.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { RecordProducer } from '@redis-stream-client/worker'
import { Redis } from 'ioredis'
import postgres from 'postgres'
import { relay, SCHEMA } from './outbox.js'

const { DATABASE_URL = '', REDIS_URL = 'redis://127.0.0.1:6379' } = process.env
const PAUSE_MS = 100

const sql = postgres(DATABASE_URL, {
  connection: { idle_in_transaction_session_timeout: 10_000 },
  onnotice: () => undefined,
})
await sql.unsafe(SCHEMA)
const redis = new Redis(REDIS_URL)
const producer = new RecordProducer(redis, 'payments')

const stop = new AbortController()
process.once('SIGTERM', () => stop.abort())
console.log('relaying')
while (!stop.signal.aborted) {
  const sent = await relay(sql, producer).catch((error: unknown) => {
    console.error(error) // the rows are still there
    return 0
  })
  if (sent === 0) await sleep(PAUSE_MS)
}
redis.disconnect()
await sql.end()
