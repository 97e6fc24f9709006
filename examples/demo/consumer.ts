/**
 * A process that owns some of the airports and works out their delays. Started four times, each time with its own
 * POD_NAME: nothing else tells the four apart, and they do not know of each other.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { StreamClientError } from '@redis-stream-client/client'
import { StreamWorker, WorkerError } from '@redis-stream-client/worker'
import { pino } from 'pino'
import { AirportResults } from './airport-results.js'
import { airportOf, parseRecord } from './airport-stream.js'
import { findWorkplace, leaveWhenTold } from './child-of-demo.js'
import { report } from './reports.js'

/** As if something were looked up: so whoever is killed or stopped has some flights in hand. */
const LOOK_UP_MS = 20
const REPORT_EVERY_MS = 100

const { redis, service } = findWorkplace()
// To standard error: the demo shows it if something fails.
const logger = pino({ level: process.env['LOG_LEVEL'] ?? 'warn' }, pino.destination({ dest: 2, sync: true }))
const results = new AirportResults(service)
const leaving = new AbortController()
leaveWhenTold(() => leaving.abort())

await using worker = new StreamWorker(redis, service, {
  logger,
  client: {
    metrics: { ownerlessGap: ({ durationMs }) => report({ type: 'moved', ownerlessMs: durationMs }) },
  },
  async process(record, { done, transaction }) {
    const airport = airportOf(record.dataStreamName)
    const delay = parseRecord(record.fields)
    if (delay === 'end') return done()
    await sleep(LOOK_UP_MS)
    try {
      const replies = await transaction(record, (multi) => results.add(multi, airport, delay))
      if (replies !== null) counted[airport] = Number(replies[0])
    } catch (error) {
      if (isRefusal(error)) report({ type: 'refused', code: error.code })
      throw error
    }
  },
})
worker.on('streamStarted', ({ dataStreamName }) => {
  report({ type: 'took', airport: airportOf(dataStreamName), atMs: Date.now() })
})
worker.on('streamEnded', ({ dataStreamName, how }) => {
  report({ type: 'left', airport: airportOf(dataStreamName), how })
})

let counted: Record<string, number> = {}
const reports = setInterval(() => void reportProgress(), REPORT_EVERY_MS)
await worker.run({ signal: leaving.signal })
clearInterval(reports)
await reportProgress()
await redis.quit()
if (process.connected) process.disconnect()

async function reportProgress(): Promise<void> {
  report({ type: 'counted', flights: counted })
  counted = {}
  report({ type: 'session', state: (await worker.status()).client.session })
}

/** True if an error says that the record is somebody else's now, rather than that something went wrong. */
function isRefusal(error: unknown): error is StreamClientError | WorkerError {
  return (
    (error instanceof StreamClientError && ['STREAM_NOT_OWNED', 'SESSION_LOST'].includes(error.code)) ||
    (error instanceof WorkerError && error.code === 'ATTEMPT_OVER')
  )
}
