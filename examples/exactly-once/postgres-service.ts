/**
 * Books the payments of a service's data streams into PostgreSQL. Run as many of these as you like, each with a POD_NAME of
 * its own: REDIS_URL says where Redis is, DATABASE_URL where PostgreSQL is.
 */
import { StreamWorker } from '@redis-stream-client/worker'
import { Redis } from 'ioredis'
import postgres from 'postgres'
import { book, SCHEMA } from './postgres-ledger.js'

const { COMMIT_INTERVAL_MS, DATABASE_URL = '', REDIS_URL = 'redis://127.0.0.1:6379' } = process.env

const sql = postgres(DATABASE_URL, {
  // A process that hangs in the middle of a transaction holds the row of its stream: its successor waits no longer for it.
  connection: { idle_in_transaction_session_timeout: 10_000 },
  onnotice: () => undefined,
})
await sql.unsafe(SCHEMA)

const redis = new Redis(REDIS_URL)
const worker = new StreamWorker(redis, 'payments', {
  process: (record, { stream }) => book(sql, record, stream.fencingToken),
  commitIntervalMs: Number(COMMIT_INTERVAL_MS ?? 1000),
})
worker.on('streamStarted', (event) => console.log(JSON.stringify(event)))
process.once('SIGTERM', () => void worker.close())
await worker.run()
redis.disconnect()
await sql.end()
