/**
 * The program of a fleet that works through records: a StreamWorker whose handler tells what it does. The package it runs
 * is named by FAULTS_WORKER, so that a weakened copy can be run.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type * as Worker from '@redis-stream-client/worker'
import { Redis } from 'ioredis'
import { codeOf, connectToLedger, options, quiet, resources, say } from './fleet-program.js'
import { type HandlingStep, Handlings } from './handlings.js'
import { Ledger } from './ledger.js'
import { effectsKey, fateOf, hasEffects, WORKER_OPTIONS } from './record-rules.js'

const LINGER_MS = 4000

const { NonRetryableError, StreamWorker } = (await import(
  process.env['FAULTS_WORKER'] ?? '@redis-stream-client/worker'
)) as typeof Worker
const redis = quiet(new Redis(options.url, { lazyConnect: true }))
const ledgerRedis = connectToLedger()
const ledger = new Ledger(ledgerRedis)
const handlings = new Handlings(ledgerRedis)
let isReady = false

const worker = new StreamWorker(redis, options.service, {
  ...WORKER_OPTIONS,
  process: handle,
  isLast: ({ fields }) => fields['last'] === '1',
  client: {
    ...options.client,
    metrics: {
      heartbeat: ({ outcome }) => {
        if (outcome === 'extended' && !isReady) say({ type: 'ready' })
        if (outcome === 'extended') isReady = true
      },
    },
  },
})
// Redis is away often: what the worker says of it is no news.
worker.on('error', () => undefined)

process.once('SIGTERM', () => {
  void worker.close()
  setTimeout(() => say({ type: 'lingering', resources: resources() }), LINGER_MS).unref()
})

try {
  await worker.run()
  say({ type: 'ended' })
} catch (error) {
  say({ type: 'refused', code: codeOf(error), error: String(error) })
  process.exitCode = 1
}
redis.disconnect()
ledgerRedis.disconnect()
process.stdin.destroy()

async function handle(
  record: Worker.StreamRecord,
  { attempt, stream, transaction }: Worker.RecordContext,
): Promise<void> {
  const { dataStreamName, fields } = record
  const n = Number(fields['n'])
  const { fencingToken: fence } = stream
  const note = (step: HandlingStep): Promise<void> =>
    handlings.note(dataStreamName, { step, fence, n, attempt, worker: worker.id })
  await note('begun')
  await sleep(options.stepMs)
  const hanging = Number(fields['hanging'])
  if (hanging > 0 && (await ledger.mayHang(hanging))) await hang(hanging)
  switch (fateOf(n, attempt)) {
    case 'fails':
      await note('failed')
      throw new Error('this attempt fails on purpose')
    case 'is doomed':
      await note('doomed')
      throw new NonRetryableError('this record fails on purpose')
    case 'is handled':
      break
    default:
      throw new RangeError(`record ${n} has no fate`)
  }
  if (hasEffects(dataStreamName)) {
    await transaction(record, (multi) => multi.rpush(effectsKey(dataStreamName), n))
  }
  await note('handled')
}

function hang(job: number): Promise<never> {
  say({ type: 'hanging', job })
  return new Promise(() => undefined)
}
