/** One client with very many streams is killed, and nine others have to share them out. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addJobs, addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import type { Budget } from '../figure.js'
import { type Host, latest, total, untilCounted } from '../host.js'
import type { HostReport, JoinOptions } from '../host-protocol.js'
import { BARE, bare, bullmq, OURS } from '../peers.js'
import { type RedisWork, totalCalls } from '../redis-meter.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { spread } from '../statistics.js'
import { TUNED_WORKER } from '../tuned-worker.js'

const STREAMS = 10_000
const SURVIVORS = 9
/** Survivors live in this many processes: more would only compete for the machine's cores. */
const HOSTS = 3
const RUNS = 2
const JOINS_AT_ONCE = 10
const TTL_MS = 2000
const DISOWNING = `${STREAMS} streams with signals disowned after a pause`
const TUNED = bullmq('lock 2 s, stalled check every 0.5 s')
const POLLING = bare('XAUTOCLAIM every second', BARE.holding)

export interface Takeover {
  /** From the kill until the last stream had an owner again. */
  readonly ownedAgainMs: number
  readonly shares: readonly number[]
  readonly expired: number
  /** Claims that were sent, each of one entry. */
  readonly claims: number
  readonly work: RedisWork
  readonly reports: readonly HostReport[]
}

export const massTakeover: Scenario = {
  name: 'mass-takeover',
  about: `${STREAMS} streams of one killed client go to ${SURVIVORS} survivors`,
  budgets: [
    ...budgetsOf('auto'),
    ...budgetsOf('manual'),
    { of: 'manual: StreamExpired per stream', statistic: 'max', bound: 'at most', limit: 1.2 },
    { of: `${DISOWNING}: longest block`, statistic: 'max', bound: 'at most', limit: 50 },
  ],
  limitMs: 8 * 60_000,
  run: async (bench) => {
    for (const claimMode of ['auto', 'manual'] as const) {
      const takeovers: Takeover[] = []
      for (let run = 1; run <= RUNS; run++) {
        bench.step(`${claimMode} (${run} of ${RUNS})`)
        takeovers.push(await takeOver(STREAMS, SURVIVORS, HOSTS, { settings: { claimMode } }))
      }
      record(bench, claimMode, takeovers)
    }
    await peers(bench)
    await disowning(bench)
  },
}

function budgetsOf(mode: 'auto' | 'manual'): Budget[] {
  const most = (what: string, limit: number): Budget => {
    return { of: `${mode}: ${what}`, statistic: 'max', bound: 'at most', limit }
  }
  return [
    most('SIGKILL to all owned again', TTL_MS + (mode === 'auto' ? 2000 : 3000)),
    most('claims per stream', 1.1),
    most('busiest survivor by mean', 1.25),
    { ...most('script in Redis, median', 1), statistic: 'median' },
    most('longest block of a survivor', 50),
  ]
}

/** One of our clients takes the streams, others join, it is killed. */
export async function takeOver(
  streams: number,
  survivors: number,
  hostCount: number,
  options: Omit<JoinOptions, 'service'>,
): Promise<Takeover> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const victim = await sandbox.host('ours')
  await addStreams(sandbox.redis, service, streams)
  await victim.join('victim', { service, ...options })
  await untilCounted('the victim owns all', [victim], () => total([victim], 'taken') >= streams)
  const hosts = await sandbox.hosts('ours', hostCount)
  await joinAll(hosts, survivors, { service, ...options })
  await sleep(TTL_MS / 2)
  await sandbox.meter.begin()
  await Promise.all(hosts.map((host) => host.measure()))
  const killedAtMs = victim.kill()
  await untilCounted('all are owned again', hosts, () => total(hosts, 'taken') >= streams, 120_000)
  const work = await sandbox.meter.end()
  return {
    ownedAgainMs: latest(hosts, 'lastTakenAtMs') - killedAtMs,
    shares: hosts.flatMap((host) => [...host.counts.values()].map(({ taken }) => taken)),
    expired: total(hosts, 'expired'),
    claims: total(hosts, 'claims'),
    work,
    reports: await Promise.all(hosts.map((host) => host.report())),
  }
}

/** A few at a time: a fleet that starts all at once on a few cores measures its own start. */
export async function joinAll(hosts: readonly Host[], members: number, options: JoinOptions): Promise<void> {
  for (let start = 0; start < members; start += JOINS_AT_ONCE) {
    const count = Math.min(JOINS_AT_ONCE, members - start)
    await Promise.all(
      Array.from({ length: count }, (_, i) =>
        (hosts[(start + i) % hosts.length] as Host).join(`m${start + i}`, options),
      ),
    )
  }
}

function record(bench: BenchRun, mode: 'auto' | 'manual', takeovers: readonly Takeover[]): void {
  const measured = (what: string, unit: string, of: (takeover: Takeover) => number): void =>
    bench.record({
      what: `${mode}: ${what}`,
      peer: OURS,
      unit,
      better: 'lower',
      samples: takeovers.map(of),
    })
  measured('SIGKILL to all owned again', 'ms', ({ ownedAgainMs }) => ownedAgainMs)
  measured('claims per stream', '×', ({ claims }) => claims / STREAMS)
  measured('busiest survivor by mean', '×', ({ shares }) => spread(shares))
  if (mode === 'manual') measured('StreamExpired per stream', '×', ({ expired }) => expired / STREAMS)
  measured('commands in Redis per stream', '', ({ work }) => totalCalls(work.calls) / STREAMS)
  measured('script in Redis, median', 'ms', ({ work }) => work.scriptMedianMs)
  measured('longest command in Redis', 'ms', ({ work }) => work.slowestMs)
  measured('longest block of a survivor', 'ms', ({ reports }) => longest(reports, 'blockMs'))
  measured('latest timer of a survivor, the busy machine included', 'ms', ({ reports }) =>
    longest(reports, 'lateMs'),
  )
}

function longest(reports: readonly HostReport[], of: 'blockMs' | 'lateMs'): number {
  return Math.max(...reports.map((report) => report[of]))
}

async function peers(bench: BenchRun): Promise<void> {
  const what = 'auto: SIGKILL to all owned again'
  for (const { peer, takeOver } of [
    { peer: TUNED, takeOver: takeOverJobs },
    { peer: POLLING, takeOver: autoclaim },
  ]) {
    await bench.attempt(what, peer, async () => {
      const { beforeKill, ownedAgainMs, shares } = await takeOver()
      if (beforeKill > 0) bench.note(`${peer.name}: ${beforeKill} were taken from their living owner`)
      bench.record({ what, peer, unit: 'ms', better: 'lower', samples: ownedAgainMs })
      const unevenness = spread(shares)
      bench.record({
        what: 'auto: busiest survivor by mean',
        peer,
        unit: '×',
        better: 'lower',
        samples: unevenness,
      })
    })
  }
}

interface PeerTakeover {
  readonly ownedAgainMs: number
  readonly shares: readonly number[]
  /** Streams the survivors took from the owner while it lived. */
  readonly beforeKill: number
}

async function takeOverJobs(): Promise<PeerTakeover> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  await addJobs(sandbox.redis, service, STREAMS)
  const victim = await sandbox.host('bullmq')
  await victim.join('victim', { service, settings: { ...TUNED_WORKER, concurrency: STREAMS } })
  await untilCounted('all jobs are active', [victim], () => total([victim], 'taken') >= STREAMS, 120_000)
  const hosts = await sandbox.hosts('bullmq', HOSTS)
  await joinAll(hosts, SURVIVORS, { service, settings: { ...TUNED_WORKER, concurrency: STREAMS } })
  await sleep(TTL_MS / 2)
  return await killAndWait(victim, hosts)
}

/** Whoever holds entries refreshes them with XCLAIM JUSTID, or the others would take them from a living client. */
async function autoclaim(): Promise<PeerTakeover> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const settings = { refreshMs: 500, autoclaim: { everyMs: 1000, minIdleMs: TTL_MS, count: 100 } }
  await addStreams(sandbox.redis, service, STREAMS)
  const victim = await sandbox.host('bare')
  await victim.join('victim', { service, settings: { readCount: 10, refreshMs: 500 } })
  await untilCounted('all are read', [victim], () => total([victim], 'taken') >= STREAMS)
  const hosts = await sandbox.hosts('bare', HOSTS)
  await joinAll(hosts, SURVIVORS, { service, settings })
  await sleep(TTL_MS / 2)
  return await killAndWait(victim, hosts)
}

async function killAndWait(victim: Host, hosts: readonly Host[]): Promise<PeerTakeover> {
  const beforeKill = total(hosts, 'taken')
  const killedAtMs = victim.kill()
  await untilCounted('all are owned again', hosts, () => total(hosts, 'taken') >= STREAMS, 120_000)
  return {
    ownedAgainMs: latest(hosts, 'lastTakenAtMs') - killedAtMs,
    shares: hosts.flatMap((host) => [...host.counts.values()].map(({ taken }) => taken)),
    beforeKill,
  }
}

/** A client that stood still for longer than its TTL gives all it owned up at once. */
async function disowning(bench: BenchRun): Promise<void> {
  bench.step(`one client disowns ${STREAMS}`)
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const host = await sandbox.host('ours')
  await addStreams(sandbox.redis, service, STREAMS)
  await host.join('m0', { service, onStream: 'hold-and-listen' })
  await untilCounted('all are owned', [host], () => total([host], 'taken') >= STREAMS)
  await host.measure()
  host.pause()
  await sleep(TTL_MS + 500)
  host.resume()
  const resumedAtMs = sharedNowMs()
  await untilCounted('all are disowned', [host], () => total([host], 'disowned') >= STREAMS)
  const tookMs = sharedNowMs() - resumedAtMs
  const { blockMs } = await host.report()
  const common = { peer: OURS, unit: 'ms', better: 'lower' } as const
  bench.record({ what: `${DISOWNING}: longest block`, samples: blockMs, ...common })
  bench.record({ what: `${DISOWNING}: all told`, samples: tookMs, ...common })
}
