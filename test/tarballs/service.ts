/** Compiled in each of the module modes of TypeScript, with the types of the dependencies checked too. */
import {
  LbsProducer,
  type OwnedStream,
  RedisStreamClient,
  StreamClientError,
} from '@redis-stream-client/client'
import { FakeStream, runHandler, startRedis } from '@redis-stream-client/testing'
import { NonRetryableError, RecordProducer, StreamWorker } from '@redis-stream-client/worker'
import { Redis } from 'ioredis'

export async function serve(url: string, signal: AbortSignal): Promise<void> {
  const redis = new Redis(url)
  const worker = new StreamWorker(redis, 'orders', {
    client: { heartbeatTtlMs: 5000 },
    async process(record, { stream, attempt }) {
      if (attempt > 3) throw new NonRetryableError(`${record.id} of ${stream.dataStreamName}`)
    },
  })
  await worker.run({ signal })
  redis.disconnect()
}

export async function own(redis: Redis): Promise<OwnedStream[]> {
  const owned: OwnedStream[] = []
  try {
    const client = new RedisStreamClient(redis, 'orders', { consumerId: 'pod-1', claimMode: 'auto' })
    for await (const notification of await client.init()) {
      if (notification.type === 'StreamAdded') owned.push(notification.stream)
    }
  } catch (error) {
    if (error instanceof StreamClientError) console.error(error.code)
  }
  return owned
}

export async function tested(): Promise<string[]> {
  await using redis = await startRedis({ version: '7' })
  const { deadLetters } = await runHandler(
    (record) => record.json<{ item: number }>(),
    [{ json: { item: 7 } }],
    {
      stream: new FakeStream('orders-eu', { additionalInfo: { url: redis.url } }),
    },
  )
  return deadLetters.map(({ recordId }) => recordId)
}

export async function produce(redis: Redis): Promise<void> {
  await new LbsProducer(redis, 'orders').add('sensor-1', { unit: 'C' })
  await new RecordProducer(redis, 'orders').addJson('orders-eu', { item: 7 }, { idempotencyKey: 'order-99' })
}
