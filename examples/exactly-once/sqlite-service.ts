/**
 * Books the payments of a service's data streams into a SQLite file. Run as many of these as you like on one machine, each with
 * a POD_NAME of its own: REDIS_URL says where Redis is, DATABASE_FILE where the file is. Needs Node 22.13 or newer.
 */
import { StreamWorker } from '@redis-stream-client/worker'
import { Redis } from 'ioredis'
import { book, openLedger } from './sqlite-ledger.js'

const { COMMIT_INTERVAL_MS, DATABASE_FILE = 'ledger.db', REDIS_URL = 'redis://127.0.0.1:6379' } = process.env

const db = openLedger(DATABASE_FILE)
const redis = new Redis(REDIS_URL)
const worker = new StreamWorker(redis, 'payments', {
  process: (record, { stream }) => book(db, record, stream.fencingToken),
  commitIntervalMs: Number(COMMIT_INTERVAL_MS ?? 1000),
})
worker.on('streamStarted', (event) => console.log(JSON.stringify(event)))
process.once('SIGTERM', () => void worker.close())
await worker.run()
redis.disconnect()
db.close()
