/** How fast waiting and new data streams come into someone's hands, and how evenly. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addJobs, addStream, addStreams, DisposableQueue } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { type Host, type HostKind, latest, total, untilCounted } from '../host.js'
import type { JoinOptions } from '../host-protocol.js'
import { BARE, bullmq, OURS, type Peer, bare as plain } from '../peers.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { spread, summarize } from '../statistics.js'

const BACKLOG = 50_000
const BACKLOG_RUNS = 5
const JOBS = 10_000
const SHARED = 10_000
const SHARERS = 10
const SHARE_RUNS = 5
const BACKLOG_WHAT = 'backlog taken by one client, COUNT 10, from its start on'
const RATIO_WHAT = 'the same, ours by the bare XREADGROUP of the same turn'
const SHARED_WHAT = `${SHARED} entries added to ${SHARERS} waiting clients`
const LATENCY_WHAT = 'XADD to StreamAdded at one of ten idle clients'
const LATENCY_RATIO_WHAT = `${LATENCY_WHAT}, ours by the bare XREADGROUP of the same turn`
/** More processes than cores would share out the machine, not the streams. */
const SHARE_HOSTS = 2
const PROBES = 400
const PROBE_EVERY_MS = 10
/** A client that has just begun reads less at a time. */
const SETTLE_MS = 1500

const READING = plain('XREADGROUP COUNT 10', BARE.reading)

const WAYS = {
  ours: { kind: 'ours', options: {} },
  bare: { kind: 'bare', options: { settings: { readCount: 10 } } },
  bullmq: { kind: 'bullmq', options: { settings: { concurrency: JOBS } } },
} as const satisfies Record<string, { kind: HostKind; options: Omit<JoinOptions, 'service'> }>

export const assignment: Scenario = {
  name: 'assignment',
  about: 'a backlog taken by one client and by ten, and the way of a new stream to a waiting client',
  budgets: [
    { of: RATIO_WHAT, statistic: 'median', bound: 'at least', limit: 0.35 },
    // A single run depends on whose process gets a core: the bare reads of the same turns show it.
    { of: `${SHARED_WHAT}: busiest by mean`, statistic: 'median', bound: 'at most', limit: 1.2 },
    { of: LATENCY_RATIO_WHAT, statistic: 'median', bound: 'at most', limit: 1.6 },
  ],
  limitMs: 6 * 60_000,
  run: async (bench) => {
    await oneClient(bench)
    await tenClients(bench)
    await latency(bench)
  },
}

/** Ours and the bare read in turn, so that both meet the same machine; each in a new process. */
async function oneClient(bench: BenchRun): Promise<void> {
  const ours: Backlog[] = []
  const bare: Backlog[] = []
  for (let run = 1; run <= BACKLOG_RUNS; run++) {
    bench.step(`one client takes ${BACKLOG} (${run} of ${BACKLOG_RUNS})`)
    ours.push(await takeBacklog('ours', BACKLOG))
    bare.push(await takeBacklog('bare', BACKLOG))
  }
  const record = (peer: Peer, backlogs: readonly Backlog[]): void => {
    const rates = backlogs.map(({ rate }) => rate)
    bench.record({ what: BACKLOG_WHAT, peer, unit: 'streams/s', better: 'higher', samples: rates })
    const samples = backlogs.map(({ redisUs }) => redisUs)
    const what = `${BACKLOG_WHAT}: Redis processor time per stream`
    bench.record({ what, peer, unit: 'µs', better: 'lower', samples })
  }
  record(OURS, ours)
  record(READING, bare)
  const jobs = bullmq(`${JOBS} jobs, concurrency as many`)
  await bench.attempt(BACKLOG_WHAT, jobs, async () => record(jobs, [await takeBacklog('bullmq', JOBS)]))
  bench.record({
    what: RATIO_WHAT,
    peer: OURS,
    unit: '×',
    better: 'higher',
    samples: ours.map(({ rate }, run) => rate / (bare[run] as Backlog).rate),
  })
}

interface Backlog {
  /** Streams per second. */
  readonly rate: number
  /** Redis processor time per stream, in microseconds. */
  readonly redisUs: number
}

async function takeBacklog(way: keyof typeof WAYS, count: number): Promise<Backlog> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  if (way === 'bullmq') await addJobs(sandbox.redis, service, count)
  else await addStreams(sandbox.redis, service, count)
  const { kind, options } = WAYS[way]
  const host = await sandbox.host(kind)
  await sandbox.meter.begin()
  const joinsAtMs = sharedNowMs()
  await host.join('m0', { service, ...options })
  await untilCounted('the backlog is taken', [host], () => total([host], 'taken') >= count, 120_000)
  const { cpuMs } = await sandbox.meter.end()
  const { takenAtMs } = await host.times('m0')
  // From when it begins to connect, for all of them: what each reads before it takes the first is part of it.
  const rate = (count / ((takenAtMs.at(-1) as number) - joinsAtMs)) * 1000
  return { rate, redisUs: (cpuMs / count) * 1000 }
}

async function tenClients(bench: BenchRun): Promise<void> {
  const spreads = { ours: [] as number[], bare: [] as number[] }
  const rates = { ours: [] as number[], bare: [] as number[] }
  for (let run = 1; run <= SHARE_RUNS; run++) {
    bench.step(`ten clients share ${SHARED} (${run} of ${SHARE_RUNS})`)
    for (const way of ['ours', 'bare'] as const) {
      const { rate, shares } = await share(way)
      spreads[way].push(spread(shares))
      rates[way].push(rate)
    }
  }
  const unevenness = { what: `${SHARED_WHAT}: busiest by mean`, unit: '×', better: 'lower' } as const
  bench.record({ ...unevenness, peer: OURS, samples: spreads.ours })
  bench.record({ ...unevenness, peer: READING, samples: spreads.bare })
  const speed = { what: `${SHARED_WHAT}: all taken`, unit: 'streams/s', better: 'higher' } as const
  bench.record({ ...speed, peer: OURS, samples: rates.ours })
  bench.record({ ...speed, peer: READING, samples: rates.bare })
}

async function share(way: 'ours' | 'bare'): Promise<{ rate: number; shares: number[] }> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const { kind, options } = WAYS[way]
  const hosts = await sandbox.hosts(kind, SHARE_HOSTS)
  await Promise.all(
    Array.from({ length: SHARERS }, (_, index) =>
      (hosts[index % SHARE_HOSTS] as Host).join(`m${index}`, { service, ...options }),
    ),
  )
  await sleep(200) // until all of them wait in their reads
  const startMs = sharedNowMs()
  await addStreams(sandbox.redis, service, SHARED)
  await untilCounted('all are taken', hosts, () => total(hosts, 'taken') >= SHARED)
  const rate = (SHARED / (latest(hosts, 'lastTakenAtMs') - startMs)) * 1000
  return { rate, shares: hosts.flatMap((host) => [...host.counts.values()].map(({ taken }) => taken)) }
}

async function latency(bench: BenchRun): Promise<void> {
  const what = LATENCY_WHAT
  const ratio = { what: LATENCY_RATIO_WHAT, peer: OURS, unit: '×', better: 'lower' } as const
  const record = (peer: Peer, samples: readonly number[]): void =>
    bench.record({ what, peer, unit: 'ms', better: 'lower', samples })
  bench.step(what)
  const [ours = [], bare = []] = await latenciesOf(['ours', 'bare'])
  record(OURS, ours)
  record(plain('XREADGROUP BLOCK', BARE.reading), bare)
  bench.record({ ...ratio, samples: summarize(ours).median / summarize(bare).median })
  const jobs = bullmq('add to active')
  await bench.attempt(what, jobs, async () => record(jobs, (await latenciesOf(['bullmq']))[0] ?? []))
}

/** The peers wait at the same time and get their entries in turn, so that all of them meet the same machine. */
async function latenciesOf(ways: readonly (keyof typeof WAYS)[]): Promise<number[][]> {
  await using sandbox = await Sandbox.open()
  const peers = await Promise.all(ways.map((way) => waitingPeer(sandbox, way)))
  await sleep(SETTLE_MS)
  for (let i = 0; i < PROBES; i++) {
    for (const { add } of peers) {
      await add(i)
      await sleep(PROBE_EVERY_MS)
    }
  }
  return await Promise.all(peers.map(({ latencies }) => latencies()))
}

interface WaitingPeer {
  readonly add: (n: number) => Promise<unknown>
  /** Of all that was added, when all of it is taken. */
  readonly latencies: () => Promise<number[]>
}

/** Ten members in two processes. */
async function waitingPeer(sandbox: Sandbox, way: keyof typeof WAYS): Promise<WaitingPeer> {
  const service = sandbox.newService()
  const { kind, options } = WAYS[way]
  const hosts = await sandbox.hosts(kind, SHARE_HOSTS)
  const members = Array.from({ length: SHARERS }, (_, index) => {
    return { host: hosts[index % SHARE_HOSTS] as Host, name: `m${index}` }
  })
  await Promise.all(members.map(({ host, name }) => host.join(name, { service, ...options })))
  const queue = new DisposableQueue(service, { connection: sandbox.redis })
  const add = (n: number): Promise<unknown> => {
    const info = { sentAtMs: sharedNowMs() }
    return way === 'bullmq' ? queue.add('job', info) : addStream(sandbox.redis, service, `s${n}`, info)
  }
  const latencies = async (): Promise<number[]> => {
    await untilCounted('all are taken', hosts, () => total(hosts, 'taken') >= PROBES)
    const times = await Promise.all(members.map(({ host, name }) => host.times(name)))
    await queue.close()
    return times.flatMap(({ latencyMs }) => latencyMs)
  }
  return { add, latencies }
}
