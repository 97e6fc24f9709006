import { RedisCluster } from '@redis-stream-client/test/support/cluster'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RecordProducer, StreamWorker } from '@redis-stream-client/worker'
import { pino } from 'pino'
import { expect, test } from 'vitest'

test('works on Redis Cluster with streams that carry the hash tag of their service, and refuses others', async () => {
  await using cluster = await RedisCluster.start({ replicas: false })
  const redis = cluster.client()
  const service = '{orders}'
  const producer = new RecordProducer(redis, service)
  await expect(producer.add('plain', { a: 'b' })).rejects.toThrow('needs the hash tag')
  const handled: string[] = []
  const problems: string[] = []
  await using worker = new StreamWorker(redis, service, {
    client: { consumerId: 'a' },
    commitIntervalMs: 20,
    logger: pino({ level: 'silent' }),
    rateLimit: { service: { records: 1000, perMs: 1000 } },
    process: async (record, { transaction }) => {
      await transaction(record, (multi) => multi.incr('{orders}:count'))
      handled.push(`${record.dataStreamName} ${record.fields['n']}`)
    },
  })
  worker.on('error', ({ message }) => problems.push(message))
  void worker.run()
  await redis.xadd(`${service}-input`, '*', 'lbs-input', JSON.stringify({ DataStreamName: 'plain' }))
  for (let n = 0; n < 20; n++) await producer.add(`{orders}:s${n % 4}`, { n })
  await eventually(
    'all are handled',
    () => handled.length,
    (length) => length === 20,
    { timeoutMs: 20_000 },
  )
  expect(await redis.get('{orders}:count')).toBe('20')
  await eventually('it is refused', () => problems.some((each) => each.includes('plain')))
  expect((await worker.status()).streams).toHaveLength(4)
}, 60_000)
