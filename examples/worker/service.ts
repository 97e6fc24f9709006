/** The shortest useful service: handles the records of all streams of `orders`, whichever it is given. */
import { StreamWorker } from '@redis-stream-client/worker'
import { Redis } from 'ioredis'

const stop = new AbortController()
process.once('SIGTERM', () => stop.abort()).once('SIGINT', () => stop.abort())
const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://localhost:6379')

await using worker = new StreamWorker(redis, 'orders', {
  client: { consumerId: process.env['POD_NAME'] ?? `local-${process.pid}` },
  process(record, { attempt, stream }) {
    console.log(`${stream.dataStreamName} ${record.id}`, record.json(), `attempt ${attempt}`)
  },
})
await worker.run({ signal: stop.signal })
redis.disconnect()
