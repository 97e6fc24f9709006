/** What each project does with the packages: assign a stream, own it, end it; then handle a record with a worker. */

exports.use = async function use(packages, Redis, url) {
  const { LbsProducer, RecordProducer, RedisStreamClient, StreamWorker } = packages
  const redis = new Redis(url)
  const run = `${process.pid}-${Math.random().toString(36).slice(2)}`

  const client = new RedisStreamClient(redis, `owning-${run}`, { consumerId: 'pod-1' })
  const notifications = await client.init()
  await new LbsProducer(redis, `owning-${run}`).add('sensor-1', { unit: 'C' })
  for await (const notification of notifications) {
    if (notification.type !== 'StreamAdded') continue
    await notification.stream.done()
    break
  }
  await client.close()

  const handled = []
  const stop = new AbortController()
  const worker = new StreamWorker(redis, `working-${run}`, {
    client: { consumerId: 'pod-1' },
    process(record) {
      handled.push(record.json())
      stop.abort()
    },
  })
  await new RecordProducer(redis, `working-${run}`).addJson(`orders-${run}`, { item: 7 })
  await worker.run({ signal: stop.signal })
  redis.disconnect()
  if (handled[0]?.item !== 7) throw new Error(`handled ${JSON.stringify(handled)}`)
  return 'works'
}
