/** Fills load-balancer streams and queues. */
import { encodeLbsMessage, type JsonObject } from '@redis-stream-client/client'
import { Queue } from 'bullmq'
import type { Redis } from 'ioredis'

const AT_ONCE = 1000

/** Adds streams `s0`, `s1`, ... to the LBS of a service. */
export async function addStreams(redis: Redis, service: string, count: number, first = 0): Promise<void> {
  for (let start = first; start < first + count; start += AT_ONCE) {
    const pipeline = redis.pipeline()
    for (let i = start; i < Math.min(start + AT_ONCE, first + count); i++) addTo(pipeline, service, `s${i}`)
    await pipeline.exec()
  }
}

/** Adds one, saying in its Info what is given. */
export async function addStream(
  redis: Redis,
  service: string,
  name: string,
  info: JsonObject,
): Promise<void> {
  await redis.xadd(`${service}-input`, '*', 'lbs-input', encodeLbsMessage({ dataStreamName: name, info }))
}

/** Adds as many jobs to a queue of BullMQ. */
export async function addJobs(redis: Redis, queueName: string, count: number): Promise<void> {
  await using queue = new DisposableQueue(queueName, { connection: redis })
  for (let start = 0; start < count; start += AT_ONCE) {
    const size = Math.min(AT_ONCE, count - start)
    await queue.addBulk(Array.from({ length: size }, (_, i) => ({ name: 'job', data: { n: start + i } })))
  }
}

/** A queue that is closed with its block; the connection stays the caller's. */
export class DisposableQueue extends Queue implements AsyncDisposable {
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

function addTo(pipeline: ReturnType<Redis['pipeline']>, service: string, dataStreamName: string): void {
  pipeline.xadd(`${service}-input`, '*', 'lbs-input', encodeLbsMessage({ dataStreamName }))
}
