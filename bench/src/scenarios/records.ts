/**
 * How fast records are worked through, once their streams are owned: by the worker, a bare loop and BullMQ.
 *
 * Everybody's clock starts at the same moment: each is connected and has what it needs, and then the records are put into
 * place. What is read before the first record is handled is part of the time.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LbsProducer } from '@redis-stream-client/client'
import { StreamWorker } from '@redis-stream-client/worker'
import { Queue, Worker } from 'bullmq'
import type { BenchRun } from '../bench-run.js'
import { BARE, bare, bullmq, OURS, type Peer } from '../peers.js'
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
/** Until the worker waits in its reads. */
const SETTLE_MS = 500
const DATA = JSON.stringify({ order: 12_345, amount: 99 })
const IDLE_WHAT = `XADD to handler, one of ${IDLE_STREAMS} idle streams`
const RATIO = ', ours by the bare loop of the same turn'

interface Way {
  readonly peer: Peer
  readonly run: (sandbox: Sandbox, streams: number) => Promise<number>
}

const WAYS = {
  bare: { peer: bare(`XREADGROUP COUNT ${BATCH} and XACK`, BARE.working), run: runBare },
  ours: { peer: OURS, run: runOurs },
  batches: { peer: { name: 'ours, processBatch', differs: '' }, run: runBatches },
  bullmq: { peer: bullmq(`${JOBS} jobs of one queue, concurrency 100`), run: runBullmq },
} as const satisfies Record<string, Way>

export const records: Scenario = {
  name: 'records',
  about: 'records through the worker, a bare XREADGROUP and XACK loop, and BullMQ: one stream and a thousand',
  budgets: [
    ...STREAM_COUNTS.map((streams) => {
      return {
        of: `${recordsOf(streams)}${RATIO}`,
        statistic: 'median',
        bound: 'at least',
        limit: 0.6,
      } as const
    }),
    { of: IDLE_WHAT, statistic: 'p99', bound: 'at most', limit: 50 },
  ],
  limitMs: 6 * 60_000,
  run: async (bench) => {
    for (const streams of STREAM_COUNTS) await compare(bench, streams)
    await idle(bench)
  },
}

function recordsOf(streams: number): string {
  return streams === 1 ? 'records of one stream' : `records of ${streams} streams`
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
    what: `${IDLE_WHAT} over ${readers} connections`,
    peer: OURS,
    unit: 'ms',
    better: 'lower',
    samples: waits.length === IDLE_RECORDS ? waits : [Number.NaN],
  })
}

/** All in turn, so that they meet the same machine; the handler does nothing. */
async function compare(bench: BenchRun, streams: number): Promise<void> {
  const what = recordsOf(streams)
  const rates: Record<keyof typeof WAYS, number[]> = { bare: [], ours: [], batches: [], bullmq: [] }
  const names = Object.keys(WAYS) as (keyof typeof WAYS)[]
  for (let turn = 1; turn <= RUNS; turn++) {
    for (const name of names) {
      const { peer, run } = WAYS[name]
      await bench.attempt(`${what} (${turn} of ${RUNS})`, peer, async () => {
        await using sandbox = await Sandbox.open()
        rates[name].push(await run(sandbox, streams))
      })
    }
  }
  for (const name of names) {
    if (rates[name].length === 0) continue
    const { peer } = WAYS[name]
    bench.record({ what, peer, unit: 'records/s', better: 'higher', samples: rates[name] })
  }
  const ratios = rates.ours.map((rate, turn) => rate / (rates.bare[turn] ?? Number.NaN))
  bench.record({ what: `${what}${RATIO}`, peer: OURS, unit: '×', better: 'higher', samples: ratios })
}

/** Counts what is handled, and answers the rate from `start` to the last. */
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
  await fill(sandbox, streams)
  const lbs = new LbsProducer(sandbox.redis, service)
  for (let n = 0; n < streams; n++) await lbs.add(`s${n}`)
  await using worker = new StreamWorker(sandbox.redis, service, {
    ...handler,
    commitEvery: BATCH,
    client: { consumerId: 'bench', readCount: 100 },
  })
  const running = worker.run()
  while ((await sandbox.redis.hlen(`${service}-locks`)) < streams) await sleep(20)
  await sleep(SETTLE_MS)
  meter.start()
  await putIntoPlace(sandbox, streams)
  const rate = await Promise.race([meter.rate, running.then(() => Number.NaN)])
  await worker.close()
  await running
  return rate
}

async function runBare(sandbox: Sandbox, streams: number): Promise<number> {
  await fill(sandbox, streams)
  const keys = Array.from({ length: streams }, (_, n) => `s${n}`)
  for (const key of keys) await sandbox.redis.xgroup('CREATE', filled(key), 'group', '0')
  const meter = new Meter(RECORDS)
  const reader = sandbox.client()
  await reader.ping()
  let rate: number | undefined
  void meter.rate.then((value) => {
    rate = value
  })
  meter.start()
  await putIntoPlace(sandbox, streams)
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
  const connection = { host: '127.0.0.1', port: sandbox.server.port, maxRetriesPerRequest: null }
  const queue = new Queue(name, { connection })
  for (let first = 0; first < JOBS; first += FILL_BATCH) {
    await queue.addBulk(Array.from({ length: FILL_BATCH }, () => ({ name: 'job', data: { data: DATA } })))
  }
  const meter = new Meter(JOBS)
  const worker = new Worker(name, async () => meter.add(1), { connection, concurrency: 100, autorun: false })
  await worker.waitUntilReady()
  meter.start()
  void worker.run()
  const rate = await meter.rate
  await worker.close(true)
  await queue.close()
  return rate
}

/** Adds the records under names that nobody reads. */
async function fill({ redis }: Sandbox, streams: number): Promise<void> {
  for (let first = 0; first < RECORDS; first += FILL_BATCH) {
    const pipeline = redis.pipeline()
    for (let n = first; n < first + FILL_BATCH; n++)
      pipeline.xadd(filled(`s${n % streams}`), '*', 'n', n, 'data', DATA)
    await pipeline.exec()
  }
}

/** Gives the filled streams the names that are read. */
async function putIntoPlace({ redis }: Sandbox, streams: number): Promise<void> {
  const pipeline = redis.pipeline()
  for (let n = 0; n < streams; n++) pipeline.rename(filled(`s${n}`), `s${n}`)
  await pipeline.exec()
}

function filled(name: string): string {
  return `filled:${name}`
}
