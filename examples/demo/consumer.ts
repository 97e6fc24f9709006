/**
 * A process that owns some of the airports and works out their delays. Started three times, each time with its own
 * POD_NAME: nothing else tells the three apart, and they do not know of each other.
 */
import { type LbsInfo, RedisStreamClient, StreamClientError } from '@redis-stream-client/client'
import type { StreamDisowned } from '@redis-stream-client/notifs'
import { pino } from 'pino'
import { AirportResults } from './airport-results.js'
import { airportOf } from './airport-stream.js'
import { AirportWorker } from './airport-worker.js'
import { findWorkplace, leaveWhenTold } from './child-of-demo.js'
import { tryAsFormerOwner } from './former-owner.js'
import { report } from './reports.js'

/** Why a stream that was offered is not to be had: normal, somebody else takes care of it. */
const NOT_TO_BE_HAD = ['ALREADY_CLAIMED', 'STREAM_GONE', 'SESSION_LOST', 'CLOSED']

const { redis, service } = findWorkplace()
const writes = redis.duplicate()
// To standard error: the demo shows it if something fails.
const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'warn' }, pino.destination({ dest: 2, sync: true }))
const client = new RedisStreamClient(redis, service, { logger })
const results = new AirportResults(writes, service)
const worker = new AirportWorker(redis, results)
const leaving = new AbortController()

client.on('session', (state) => report({ type: 'session', state }))
leaveWhenTold(() => void client.close())
const notifications = await client.init()
const work = worker.run(leaving.signal).catch(fail)

for await (const notification of notifications) {
  switch (notification.type) {
    case 'StreamAdded':
      void worker.begin(notification.stream).catch(fail)
      break
    case 'StreamExpired':
      void claim(notification.payload).catch(fail) // not awaited: claims travel together
      break
    case 'StreamDisowned':
      void putDown(notification).catch(fail)
      break
    case 'StreamTerminated':
      leaving.abort()
      break
    default:
      notification satisfies never
  }
}

await work
await Promise.all([redis.quit(), writes.quit()])
if (process.connected) process.disconnect()

async function claim(payload: LbsInfo): Promise<void> {
  try {
    await worker.begin(await client.claim(payload))
  } catch (error) {
    if (!(error instanceof StreamClientError && NOT_TO_BE_HAD.includes(error.code))) throw error
  }
}

async function putDown({ additionalInfo, payload, reason }: StreamDisowned): Promise<void> {
  report({ type: 'disowned', airport: airportOf(additionalInfo), reason })
  const work = worker.putDown(payload.dataStreamName)
  if (work !== undefined) await tryAsFormerOwner(work, results)
}

function fail(error: unknown): void {
  logger.error({ err: error }, 'this consumer cannot go on')
  process.exitCode = 1
  void client.close()
}
