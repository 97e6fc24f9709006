/** How fast waiting and new data streams come into someone's hands, and how evenly. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addJobs, addStream, addStreams, DisposableQueue } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { OURS } from '../figure.js'
import { type Host, type HostKind, latest, total, untilCounted } from '../host.js'
import type { JoinOptions } from '../host-protocol.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { spread } from '../statistics.js'

const BACKLOG = 50_000
const BACKLOG_RUNS = 5
const JOBS = 10_000
const SHARED = 10_000
const SHARERS = 10
const SHARE_RUNS = 5
/** More processes than cores would share out the machine, not the streams. */
const SHARE_HOSTS = 2
const PROBES = 400
const PROBE_EVERY_MS = 10

const WAYS = {
  ours: { kind: 'ours', options: {} },
  bare: { kind: 'bare', options: { settings: { readCount: 10 } } },
  bullmq: { kind: 'bullmq', options: { settings: { concurrency: JOBS } } },
} as const satisfies Record<string, { kind: HostKind; options: Omit<JoinOptions, 'service'> }>

export const assignment: Scenario = {
  name: 'assignment',
  about: 'a backlog taken by one client and by ten, and the way of a new stream to a waiting client',
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
  bench.step(`one BullMQ worker takes ${JOBS}`)
  const bullmq = [await takeBacklog('bullmq', JOBS)]
  const record = (peer: string, backlogs: readonly Backlog[]): void => {
    const what = 'backlog taken by one client, COUNT 10'
    bench.record({ what, peer, unit: 'streams/s', samples: backlogs.map(({ rate }) => rate) })
    const samples = backlogs.map(({ redisUs }) => redisUs)
    bench.record({ what: `${what}: Redis processor time per stream`, peer, unit: 'µs', samples })
  }
  record(OURS, ours)
  record('bare XREADGROUP COUNT 10', bare)
  record(`BullMQ, ${JOBS} jobs, concurrency as many`, bullmq)
  bench.record({
    what: 'the same, ours by the bare XREADGROUP of the same turn',
    peer: OURS,
    unit: '×',
    samples: ours.map(({ rate }, run) => rate / (bare[run] as Backlog).rate),
    budget: { statistic: 'median', bound: 'at least', limit: 0.35 },
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
  // From the first on: connecting and beginning a session are measured elsewhere. A BullMQ worker fetches all before
  // it starts the first.
  const startMs = way === 'bullmq' ? joinsAtMs : (takenAtMs[0] as number)
  const rate = (count / ((takenAtMs.at(-1) as number) - startMs)) * 1000
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
  const of = `${SHARED} entries added to ${SHARERS} waiting clients`
  bench.record({
    what: `${of}: busiest by mean`,
    peer: OURS,
    unit: '×',
    samples: spreads.ours,
    // A single run depends on whose process gets a core: the bare reads of the same turns show it.
    budget: { statistic: 'median', bound: 'at most', limit: 1.2 },
  })
  const peer = 'bare XREADGROUP COUNT 10'
  bench.record({ what: `${of}: busiest by mean`, peer, unit: '×', samples: spreads.bare })
  bench.record({ what: `${of}: all taken`, peer: OURS, unit: 'streams/s', samples: rates.ours })
  bench.record({ what: `${of}: all taken`, peer, unit: 'streams/s', samples: rates.bare })
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
  const what = 'XADD to StreamAdded at one of ten idle clients'
  const peers = { ours: OURS, bare: 'bare XREADGROUP BLOCK', bullmq: 'BullMQ, add to active' }
  for (const way of ['ours', 'bare', 'bullmq'] as const) {
    bench.step(`latency, ${peers[way]}`)
    bench.record({ what, peer: peers[way], unit: 'ms', samples: await latenciesOf(way) })
  }
}

async function latenciesOf(way: keyof typeof WAYS): Promise<number[]> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const { kind, options } = WAYS[way]
  const hosts = await sandbox.hosts(kind, 2)
  const members = Array.from({ length: SHARERS }, (_, index) => `m${index}`)
  const hostOf = (index: number) => hosts[index % hosts.length] as (typeof hosts)[number]
  await Promise.all(members.map((member, index) => hostOf(index).join(member, { service, ...options })))
  await using queue = new DisposableQueue(service, { connection: sandbox.redis })
  for (let i = 0; i < PROBES; i++) {
    const sentAtMs = sharedNowMs()
    if (way === 'bullmq') await queue.add('job', { sentAtMs })
    else await addStream(sandbox.redis, service, `s${i}`, { sentAtMs })
    await sleep(PROBE_EVERY_MS)
  }
  await untilCounted('all are taken', hosts, () => total(hosts, 'taken') >= PROBES)
  const times = await Promise.all(members.map((member, index) => hostOf(index).times(member)))
  return times.flatMap(({ latencyMs }) => latencyMs)
}
