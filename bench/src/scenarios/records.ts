/** How fast records are worked through, once their streams are owned: by the worker, a bare loop and BullMQ. */
import { setTimeout as sleep } from 'node:timers/promises'
import { LbsProducer } from '@redis-stream-client/client'
import { StreamWorker } from '@redis-stream-client/worker'
import { Queue, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import type { BenchRun } from '../bench-run.js'
import { OURS } from '../figure.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'

const RECORDS = 100_000
const JOBS = 20_000
const RUNS = 3
const STREAM_COUNTS = [1, 1000]
const BATCH = 100
const IDLE_STREAMS = 5000
const IDLE_RECORDS = 1000
const FILL_BATCH = 1000
const DATA = JSON.stringify({ order: 12_345, amount: 99 })

const WAYS = {
  ours: runOurs,
  batches: runBatches,
  bare: runBare,
  bullmq: runBullmq,
} as const

export const records: Scenario = {
  name: 'records',
  about: 'records through the worker, a bare XREADGROUP and XACK loop, and BullMQ: one stream and a thousand',
  run: async (bench) => {
    for (const streams of STREAM_COUNTS) await compare(bench, streams)
    await idle(bench)
  },
}

/** The way of a record of an idle stream to its handler, among thousands of others. */
async function idle(bench: BenchRun): Promise<void> {
  bench.step(`a record of one of ${IDLE_STREAMS} idle streams`)
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const lbs = new LbsProducer(sandbox.redis, service)
  for (let n = 0; n < IDLE_STREAMS; n++) await lbs.add(`s${n}`)
  const sentAtMs: number[] = []
  const waits: number[] = []
  await using worker = new StreamWorker(sandbox.redis, service, {
    process: ({ fields }) => void waits.push(performance.now() - (sentAtMs[Number(fields['n'])] as number)),
    client: { consumerId: 'bench', readCount: 100 },
  })
  const running = worker.run()
  while ((await sandbox.redis.hlen(`${service}-locks`)) < IDLE_STREAMS) await sleep(100)
  await sleep(1000)
  for (let n = 0; n < IDLE_RECORDS; n++) {
    sentAtMs.push(performance.now())
    await sandbox.redis.xadd(`s${Math.floor(Math.random() * IDLE_STREAMS)}`, '*', 'n', n)
    await sleep(10)
  }
  await sleep(500)
  const readers = (await worker.status()).readers.length
  await worker.close()
  await running
  bench.record({
    what: `XADD to handler, one of ${IDLE_STREAMS} idle streams over ${readers} connections`,
    peer: OURS,
    unit: 'ms',
    samples: waits.length === IDLE_RECORDS ? waits : [Number.NaN],
    budget: { statistic: 'p99', bound: 'at most', limit: 50 },
  })
}

/** All in turn, so that they meet the same machine; the handler does nothing. */
async function compare(bench: BenchRun, streams: number): Promise<void> {
  const rates: Record<keyof typeof WAYS, number[]> = { ours: [], batches: [], bare: [], bullmq: [] }
  for (let run = 1; run <= RUNS; run++) {
    for (const way of ['bare', 'ours', 'batches', 'bullmq'] as const) {
      bench.step(`${streams} streams, ${way} (${run} of ${RUNS})`)
      await using sandbox = await Sandbox.open()
      rates[way].push(await WAYS[way](sandbox, streams))
    }
  }
  const what = streams === 1 ? 'records of one stream' : `records of ${streams} streams`
  const unit = 'records/s'
  bench.record({ what, peer: OURS, unit, samples: rates.ours })
  bench.record({ what, peer: 'ours, processBatch', unit, samples: rates.batches })
  bench.record({ what, peer: `bare XREADGROUP COUNT ${BATCH} and XACK`, unit, samples: rates.bare })
  bench.record({
    what,
    peer: `BullMQ, ${JOBS} jobs of one queue, concurrency 100`,
    unit,
    samples: rates.bullmq,
  })
  bench.record({
    what: `${what}, ours by the bare loop of the same turn`,
    peer: OURS,
    unit: '×',
    samples: rates.ours.map((rate, run) => rate / (rates.bare[run] as number)),
    budget: { statistic: 'median', bound: 'at least', limit: 0.6 },
  })
}

/**
 * Counts what is handled, and answers the rate from `start`, else from the first, to the last. The bare loop may read
 * everything before it handles the first, so its clock begins with its first read.
 */
class Meter {
  readonly rate: Promise<number>
  readonly #goal: number
  #count = 0
  #startedAtMs = 0
  #resolve!: (rate: number) => void

  constructor(goal: number) {
    this.#goal = goal
    this.rate = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  start(): void {
    this.#startedAtMs = performance.now()
  }

  add(count: number): void {
    if (this.#startedAtMs === 0) this.start()
    this.#count += count
    if (this.#count >= this.#goal)
      this.#resolve((this.#goal * 1000) / (performance.now() - this.#startedAtMs))
  }
}

function runOurs(sandbox: Sandbox, streams: number): Promise<number> {
  const meter = new Meter(RECORDS)
  return runWorker(sandbox, streams, meter, { process: async () => meter.add(1) })
}

function runBatches(sandbox: Sandbox, streams: number): Promise<number> {
  const meter = new Meter(RECORDS)
  return runWorker(sandbox, streams, meter, { processBatch: async (batch) => meter.add(batch.length) })
}

async function runWorker(
  sandbox: Sandbox,
  streams: number,
  meter: Meter,
  handler: ConstructorParameters<typeof StreamWorker>[2],
): Promise<number> {
  const service = sandbox.newService()
  await fill(sandbox.redis, streams)
  const lbs = new LbsProducer(sandbox.redis, service)
  for (let n = 0; n < streams; n++) await lbs.add(`s${n}`)
  await using worker = new StreamWorker(sandbox.redis, service, {
    ...handler,
    commitEvery: BATCH,
    client: { consumerId: 'bench', readCount: 100 },
  })
  const running = worker.run()
  const rate = await Promise.race([meter.rate, running.then(() => Number.NaN)])
  await worker.close()
  await running
  return rate
}

async function runBare(sandbox: Sandbox, streams: number): Promise<number> {
  await fill(sandbox.redis, streams)
  const keys = Array.from({ length: streams }, (_, n) => `s${n}`)
  for (const key of keys) await sandbox.redis.xgroup('CREATE', key, 'group', '0')
  const meter = new Meter(RECORDS)
  const reader = sandbox.server.client()
  let rate: number | undefined
  void meter.rate.then((value) => {
    rate = value
  })
  meter.start()
  while (rate === undefined) {
    const reply = await reader.xreadgroup(
      'GROUP',
      'group',
      'consumer',
      'COUNT',
      BATCH,
      'STREAMS',
      ...keys,
      ...keys.map(() => '>'),
    )
    const pipeline = reader.pipeline()
    for (const [key, entries] of (reply ?? []) as [string, [id: string, fields: string[]][]][]) {
      for (const _ of entries) await (async () => meter.add(1))()
      pipeline.xack(key, 'group', ...entries.map(([id]) => id))
    }
    await pipeline.exec()
  }
  return rate
}

async function runBullmq(sandbox: Sandbox): Promise<number> {
  const name = sandbox.newService()
  const connection = { path: sandbox.server.socketPath, maxRetriesPerRequest: null }
  const queue = new Queue(name, { connection })
  for (let first = 0; first < JOBS; first += FILL_BATCH) {
    await queue.addBulk(Array.from({ length: FILL_BATCH }, () => ({ name: 'job', data: { data: DATA } })))
  }
  const meter = new Meter(JOBS)
  const worker = new Worker(name, async () => meter.add(1), { connection, concurrency: 100 })
  const rate = await meter.rate
  await worker.close(true)
  await queue.close()
  return rate
}

async function fill(redis: Redis, streams: number): Promise<void> {
  for (let first = 0; first < RECORDS; first += FILL_BATCH) {
    const pipeline = redis.pipeline()
    for (let n = first; n < first + FILL_BATCH; n++)
      pipeline.xadd(`s${n % streams}`, '*', 'n', n, 'data', DATA)
    await pipeline.exec()
  }
}
