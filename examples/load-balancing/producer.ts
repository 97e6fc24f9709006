/**
 * Adds electricity meters, one data stream each, and then their readings until all have sent theirs.
 * How many, and how fast: METERS, READINGS (of each meter), EVERY_MS (between the readings of a meter).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LbsProducer } from '@redis-stream-client/client'
import { Redis } from 'ioredis'

const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379')
const lbs = new LbsProducer(redis, 'meters')
const { METERS = '12', READINGS = '300', EVERY_MS = '200' } = process.env

// Names of their own, as a data stream added again would be the same one.
const run = Date.now().toString(36)
const meters = Array.from({ length: Number(METERS) }, (_, index) => `meter:${run}-${index + 1}`)
for (const meter of meters) {
  const id = await lbs.add(meter, { readings: Number(READINGS) })
  console.log(`added ${meter} as ${id}`)
}
for (let reading = 1; reading <= Number(READINGS); reading++) {
  await Promise.all(meters.map((meter) => redis.xadd(meter, '*', 'kwh', reading)))
  await sleep(Number(EVERY_MS))
}
console.log(`sent ${READINGS} readings of each`)
await redis.quit()
