/**
 * One of several equal consumers. It owns some of the meters, adds up their readings, and takes over the meters of
 * consumers that die. Give each process its own POD_NAME; stop it with SIGTERM or Ctrl-C.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type LbsInfo,
  type OwnedStream,
  RedisStreamClient,
  StreamClientError,
} from '@redis-stream-client/client'
import { Redis } from 'ioredis'
import { pino } from 'pino'

const POLL_EVERY_MS = 100
const READ_COUNT = 100

/** What there is to know about a meter so far; committed as one. */
interface Sum {
  readonly position: string
  readonly readings: number
  readonly kwh: number
}

const transport = { target: 'pino-pretty', options: { ignore: 'pid,hostname,service,client' } }
const log = pino({ level: process.env['LOG_LEVEL'] ?? 'info', transport })
const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379')
const client = new RedisStreamClient(redis, 'meters', { logger: log })
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void client.close())

const notifications = await client.init()
log.info(`${client.id} is ready`)
for await (const notification of notifications) {
  switch (notification.type) {
    case 'StreamAdded':
      void work(notification.stream)
      break
    case 'StreamExpired':
      log.info(`${notification.payload.dataStreamName} has lost ${notification.previousOwner ?? 'its owner'}`)
      void claim(notification.payload) // not awaited: claims travel together
      break
    case 'StreamDisowned':
      log.warn(`${notification.payload.dataStreamName} is not ours any more: ${notification.reason}`)
      break
    case 'StreamTerminated':
      log.info(notification.additionalInfo.info)
      break
    default:
      notification satisfies never
  }
}
await redis.quit()

async function claim(payload: LbsInfo): Promise<void> {
  try {
    await work(await client.claim(payload))
  } catch (error) {
    // Most often ALREADY_CLAIMED: another consumer was faster.
    log.debug({ err: error }, `${payload.dataStreamName} is not to be had`)
  }
}

/** Works on one meter until all its readings are in, or it is not ours any more. */
async function work(stream: OwnedStream): Promise<void> {
  const { additionalInfo, checkpoint, dataStreamName } = stream
  let sum: Sum =
    checkpoint === null ? { position: '0-0', readings: 0, kwh: 0 } : (JSON.parse(checkpoint) as Sum)
  log.info(`${dataStreamName} is ours, from reading ${sum.readings + 1} on`)
  try {
    while (stream.owned) {
      const next = await read(dataStreamName, sum)
      if (next !== sum) await stream.commit(JSON.stringify(next))
      sum = next
      if (sum.readings === additionalInfo['readings']) {
        await stream.done()
        await redis.del(dataStreamName)
        log.info(`${dataStreamName} is done: ${sum.readings} readings, ${sum.kwh} kWh`)
        return
      }
      await sleep(POLL_EVERY_MS)
    }
  } catch (error) {
    if (!(error instanceof StreamClientError)) throw error
    log.info(`${dataStreamName}: ${error.code}, ${error.message}`)
  }
}

/** Adds what has come in since. Does not block, so that all meters can share one connection. */
async function read(dataStreamName: string, before: Sum): Promise<Sum> {
  const answer = await redis.xread('COUNT', READ_COUNT, 'STREAMS', dataStreamName, before.position)
  let sum = before
  for (const [, entries] of answer ?? []) {
    for (const [position, fields] of entries) {
      sum = { position, readings: sum.readings + 1, kwh: sum.kwh + Number(fields?.[1]) }
    }
  }
  return sum
}
