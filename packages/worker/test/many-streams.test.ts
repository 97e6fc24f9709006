/** Five thousand streams over a handful of connections: an idle one's new record is handled at once. */
import { LbsProducer } from '@redis-stream-client/client'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { World } from './support/world.js'

const STREAMS = 5000
const SAMPLES = 200
const BUDGET_MS = 50
const MAX_TRIES = 5

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

test(`reads ${STREAMS} streams over at most four connections, a new record within ${BUDGET_MS} ms (p99)`, async () => {
  const lbs = new LbsProducer(world.redis, world.service)
  await Promise.all(Array.from({ length: STREAMS }, (_, n) => lbs.add(`s${n}`)))
  const arrived = new Map<string, number>()
  const { worker } = world.start('a', {
    client: { readCount: 100 },
    process: ({ dataStreamName, fields }) =>
      void arrived.set(`${dataStreamName} ${fields['n']}`, performance.now()),
  })
  await eventually(
    'all are owned',
    async () => (await world.redis.hlen('orders-locks')) === STREAMS,
    Boolean,
    {
      timeoutMs: 30_000,
    },
  )
  // A slow moment of the machine is no property of the worker: the best of some tries counts.
  let p99Ms = Infinity
  for (let tries = 0; tries < MAX_TRIES && p99Ms > BUDGET_MS; tries++)
    p99Ms = Math.min(p99Ms, await sample(arrived))
  expect(p99Ms).toBeLessThanOrEqual(BUDGET_MS)
  const clients = String(await world.redis.client('LIST')).split('\n')
  expect(
    clients.filter((line) => / name=orders:redis-consumer-a:(worker|reader-\d) /.test(line)),
  ).toHaveLength(3)
  expect((await worker.status()).streams).toHaveLength(STREAMS)
}, 90_000)

async function sample(arrived: Map<string, number>): Promise<number> {
  const waits: number[] = []
  for (let n = 0; n < SAMPLES; n++) {
    const stream = `s${Math.floor(Math.random() * STREAMS)}`
    const key = `${stream} ${n}`
    arrived.delete(key)
    const sentAtMs = performance.now()
    await world.redis.xadd(stream, '*', 'n', n)
    await eventually(`record ${key}`, () => arrived.has(key), Boolean, { everyMs: 1 })
    waits.push((arrived.get(key) as number) - sentAtMs)
  }
  waits.sort((a, b) => a - b)
  return waits[Math.floor(SAMPLES * 0.99)] as number
}
