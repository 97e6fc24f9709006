/** Adds ten orders each to three streams. The first record of a stream assigns it to a worker. */
import { RecordProducer } from '@redis-stream-client/worker'
import { Redis } from 'ioredis'

const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://localhost:6379')
const producer = new RecordProducer(redis, 'orders')
for (let n = 1; n <= 10; n++) {
  for (const region of ['eu', 'us', 'asia']) {
    await producer.addJson(`orders-${region}`, { order: n }, { idempotencyKey: `order-${n}` })
  }
}
redis.disconnect()
