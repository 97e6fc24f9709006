/**
 * How fast records are worked through, once their streams are owned: by the worker, a bare loop and BullMQ.
 *
 * Everybody's clock starts at the same moment: each is connected and has what it needs, and then the records are put into
 * place. What is read before the first record is handled is part of the time.
 *
 * Large records are made by Redis itself, so that the memory of this process is that of the worker.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { LbsProducer } from '@redis-stream-client/client'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import { StreamWorker } from '@redis-stream-client/worker'
import { Queue, Worker } from 'bullmq'
import type { Redis } from 'ioredis'
import type { BenchRun } from '../bench-run.js'
import type { Budget } from '../figure.js'
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
const LARGE_FILL_BATCH = 20
const ADD_LARGE = `return redis.call('XADD', KEYS[1], '*', 'n', ARGV[1], 'data', string.rep('x', tonumber(ARGV[2])))`
/** Until the worker waits in its reads. */
const SETTLE_MS = 500
const DATA = JSON.stringify({ order: 12_345, amount: 99 })
const IDLE_WHAT = `XADD to handler, one of ${IDLE_STREAMS} idle streams`
const RATIO = ', ours by the bare loop of the same turn'
const KIB = 1024

/** What is worked through. */
interface Load {
  readonly what: string
  readonly streams: number
  readonly records: number
  /** Of the field `data` of each record; null for the small records. */
  readonly bytes: number | null
}

const SMALL: readonly Load[] = STREAM_COUNTS.map((streams) => ({
  what: streams === 1 ? 'records of one stream' : `records of ${streams} streams`,
  streams,
  records: RECORDS,
  bytes: null,
}))
const LARGE: readonly Load[] = [
  { what: 'records of 16 KiB of one stream', streams: 1, records: 10_000, bytes: 16 * KIB },
  { what: 'records of 256 KiB of one stream', streams: 1, records: 1000, bytes: 256 * KIB },
]
/** More than sixteen times what may be in memory. */
const CROWD: Load = {
  what: '100 records of 256 KiB of each of 40 streams',
  streams: 40,
  records: 4000,
  bytes: 256 * KIB,
}
const MEMORY = `${CROWD.what}: resident memory over idle`
/** 100 Mbit/s. */
const SLOW_LINK_BYTES = 12_500_000
const SLOW: Load = {
  what: 'records of 256 KiB over a link of 100 Mbit/s',
  streams: 1,
  records: 200,
  bytes: 256 * KIB,
}
const SLOW_RATIO = `${SLOW.what}, ours by what the link carries`
const MEMORY_EVERY_MS = 10

interface Way {
  readonly peer: Peer
  readonly run: (sandbox: Sandbox, load: Load) => Promise<number>
}

const WAYS = {
  bare: { peer: bare(`XREADGROUP COUNT ${BATCH} and XACK`, BARE.working), run: runBare },
  ours: { peer: OURS, run: runOurs },
  batches: { peer: { name: 'ours, processBatch', differs: '' }, run: runBatches },
  bullmq: { peer: bullmq(`${JOBS} jobs of one queue, concurrency 100`), run: runBullmq },
} as const satisfies Record<string, Way>

export const records: Scenario = {
  name: 'records',
  about:
    'records through the worker, a bare XREADGROUP and XACK loop, and BullMQ: one stream, a thousand, large ones, a slow link',
  budgets: [
    ...SMALL.map(({ what }) => atLeast(`${what}${RATIO}`, 0.9)),
    ...LARGE.map(({ what }) => atLeast(`${what}${RATIO}`, 0.8)),
    { of: MEMORY, statistic: 'max', bound: 'at most', limit: 150 },
    atLeast(SLOW_RATIO, 0.7),
    { of: IDLE_WHAT, statistic: 'p99', bound: 'at most', limit: 10 },
  ],
  limitMs: 10 * 60_000,
  run: async (bench) => {
    for (const load of SMALL) await compare(bench, load, ['bare', 'ours', 'batches', 'bullmq'])
    for (const load of LARGE) await compare(bench, load, ['bare', 'ours'])
    await memory(bench)
    await slowLink(bench)
    await idle(bench)
  },
}

function atLeast(of: string, limit: number): Budget {
  return { of, statistic: 'median', bound: 'at least', limit }
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
async function compare(bench: BenchRun, load: Load, names: readonly (keyof typeof WAYS)[]): Promise<void> {
  const { what } = load
  const rates: Record<keyof typeof WAYS, number[]> = { bare: [], ours: [], batches: [], bullmq: [] }
  for (let turn = 1; turn <= RUNS; turn++) {
    for (const name of names) {
      const { peer, run } = WAYS[name]
      await bench.attempt(`${what} (${turn} of ${RUNS})`, peer, async () => {
        await using sandbox = await Sandbox.open()
        rates[name].push(await run(sandbox, load))
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

/** How much the process of a worker grows while far more waits than it may keep. */
async function memory(bench: BenchRun): Promise<void> {
  bench.step(MEMORY)
  await using sandbox = await Sandbox.open()
  let idleBytes = 0
  let mostBytes = 0
  const look = (): void => {
    mostBytes = Math.max(mostBytes, process.memoryUsage.rss())
  }
  const meter = new Meter(CROWD.records)
  let timer: NodeJS.Timeout | undefined
  const rate = await runWorker(sandbox, CROWD, meter, { process: async () => meter.add(1) }, () => {
    idleBytes = process.memoryUsage.rss()
    timer = setInterval(look, MEMORY_EVERY_MS)
  })
  clearInterval(timer)
  look()
  const samples = Number.isNaN(rate) ? rate : (mostBytes - idleBytes) / 1_000_000
  bench.record({ what: MEMORY, peer: OURS, unit: 'MB', better: 'lower', samples })
}

/** Both over the same link: what a loop of XREAD that does nothing else gets through it, and the worker. */
async function slowLink(bench: BenchRun): Promise<void> {
  const ratios: number[] = []
  for (let turn = 1; turn <= RUNS; turn++) {
    bench.step(`${SLOW.what} (${turn} of ${RUNS})`)
    await using sandbox = await Sandbox.open()
    await using proxy = await TcpProxy.listen({ port: sandbox.server.port })
    proxy.throttle(SLOW_LINK_BYTES)
    const redis = sandbox.server.client({ port: proxy.port, host: '127.0.0.1' })
    const carried = await readThrough(sandbox, redis)
    await sandbox.redis.flushall()
    const meter = new Meter(SLOW.records)
    const handled = await runWorker(
      sandbox,
      SLOW,
      meter,
      { process: async () => meter.add(1) },
      () => undefined,
      redis,
    )
    redis.disconnect()
    ratios.push(handled / carried)
  }
  bench.record({ what: SLOW_RATIO, peer: OURS, unit: '×', better: 'higher', samples: ratios })
}

async function readThrough(sandbox: Sandbox, redis: Redis): Promise<number> {
  await fill(sandbox, SLOW)
  const meter = new Meter(SLOW.records)
  meter.start()
  for (let read = 0, after = '0'; read < SLOW.records; ) {
    const reply = await redis.xread('COUNT', 4, 'STREAMS', filled('s0'), after)
    const records = reply?.[0]?.[1] ?? []
    meter.add(records.length)
    read += records.length
    after = records.at(-1)?.[0] ?? after
  }
  return await meter.rate
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

function runOurs(sandbox: Sandbox, load: Load): Promise<number> {
  const meter = new Meter(load.records)
  return runWorker(sandbox, load, meter, { process: async () => meter.add(1) })
}

function runBatches(sandbox: Sandbox, load: Load): Promise<number> {
  const meter = new Meter(load.records)
  return runWorker(sandbox, load, meter, { processBatch: async (batch) => meter.add(batch.length) })
}

async function runWorker(
  sandbox: Sandbox,
  load: Load,
  meter: Meter,
  handler: ConstructorParameters<typeof StreamWorker>[2],
  onReady: () => void = () => undefined,
  redis: Redis = sandbox.redis,
): Promise<number> {
  const service = sandbox.newService()
  const { streams } = load
  await fill(sandbox, load)
  const lbs = new LbsProducer(sandbox.redis, service)
  for (let n = 0; n < streams; n++) await lbs.add(`s${n}`)
  await using worker = new StreamWorker(redis, service, {
    ...handler,
    commitEvery: BATCH,
    client: { consumerId: 'bench', readCount: 100 },
  })
  const running = worker.run()
  while ((await sandbox.redis.hlen(`${service}-locks`)) < streams) await sleep(20)
  await sleep(SETTLE_MS)
  onReady()
  meter.start()
  await putIntoPlace(sandbox, streams)
  const rate = await Promise.race([meter.rate, running.then(() => Number.NaN)])
  await worker.close()
  await running
  return rate
}

async function runBare(sandbox: Sandbox, load: Load): Promise<number> {
  const { streams } = load
  await fill(sandbox, load)
  const keys = Array.from({ length: streams }, (_, n) => `s${n}`)
  for (const key of keys) await sandbox.redis.xgroup('CREATE', filled(key), 'group', '0')
  const meter = new Meter(load.records)
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
async function fill({ redis }: Sandbox, { bytes, records, streams }: Load): Promise<void> {
  const batch = bytes === null ? FILL_BATCH : LARGE_FILL_BATCH
  for (let first = 0; first < records; first += batch) {
    const pipeline = redis.pipeline()
    for (let n = first; n < first + batch; n++) {
      const key = filled(`s${n % streams}`)
      if (bytes === null) pipeline.xadd(key, '*', 'n', n, 'data', DATA)
      else pipeline.eval(ADD_LARGE, 1, key, n, bytes)
    }
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
