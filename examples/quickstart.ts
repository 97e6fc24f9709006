/** One process adds three data streams, owns them, reads each to its end, and leaves. */
import { LbsProducer, type OwnedStream, RedisStreamClient } from '@redis-stream-client/client'
import { Redis } from 'ioredis'

const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379')
const names = new Set(['temperatures:Lagos', 'temperatures:Lima', 'temperatures:Oslo'])

const producer = new LbsProducer(redis, 'quickstart')
for (const name of names) {
  for (const degrees of [19, 21, 23]) await redis.xadd(name, '*', 'degrees', degrees)
  await producer.add(name)
}

// In production each process has a POD_NAME instead.
const client = new RedisStreamClient(redis, 'quickstart', { consumerId: 'quickstart-1' })
for await (const notification of await client.init()) {
  if (notification.type === 'StreamAdded') void work(notification.stream).catch(console.error)
  if (notification.type === 'StreamTerminated') console.log(notification.additionalInfo.info)
}
redis.disconnect()

async function work(stream: OwnedStream): Promise<void> {
  const { checkpoint, dataStreamName } = stream
  for (const [id, fields] of await redis.xrange(dataStreamName, checkpoint ? `(${checkpoint}` : '-', '+')) {
    console.log(dataStreamName, ...fields)
    await stream.commit(id)
  }
  await redis.del(dataStreamName)
  await stream.done()
  if (names.delete(dataStreamName) && names.size === 0) await client.close()
}
