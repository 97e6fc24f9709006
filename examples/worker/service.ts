/** The shortest useful service: handles the records of all streams of `orders`, whichever it is given. */
import { StreamWorker } from '@redis-stream-client/worker'
import { Redis } from 'ioredis'

const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://localhost:6379')

const worker = new StreamWorker(redis, 'orders', {
  client: { consumerId: process.env['POD_NAME'] ?? `local-${process.pid}` },
  process(record, { attempt, stream }) {
    console.log(`${stream.dataStreamName} ${record.id}`, record.json(), `attempt ${attempt}`)
  },
})
process.once('SIGTERM', () => void worker.close()).once('SIGINT', () => void worker.close())
console.log(`${worker.id} begins`)
await worker.run()
redis.disconnect()
