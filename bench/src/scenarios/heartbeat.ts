/** What it costs to stay the owner of streams nothing happens to. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addJobs, addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { total, untilCounted } from '../host.js'
import type { JoinOptions } from '../host-protocol.js'
import { BARE, bare, bullmq, OURS, type Peer } from '../peers.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { sentAtRest } from '../sent-commands.js'
import { TUNED_WORKER } from '../tuned-worker.js'

const SETTLE_MS = 1500
const WINDOW_MS = 5000
/** One look at all owned streams falls into it, whenever it begins. */
const LOOK_WINDOW_MS = 42_000
const TTL_MS = 2000
const LOOK = ', one look at all of them included'

interface Way {
  readonly peer: Peer
  readonly kind: 'ours' | 'bullmq' | 'bare'
  readonly streams: readonly number[]
  readonly options: (streams: number) => Omit<JoinOptions, 'service'>
  readonly windowMs?: number
}

const WAYS: readonly Way[] = [
  { peer: OURS, kind: 'ours', streams: [1, 1000, 10_000, 100_000], options: () => ({ keepsTimes: false }) },
  {
    peer: bullmq('lock 2 s, renewed every second'),
    kind: 'bullmq',
    streams: [1000, 10_000],
    options: (concurrency) => ({ settings: { ...TUNED_WORKER, concurrency } }),
  },
  {
    peer: bullmq('defaults (lock 30 s, renewed every 15 s)'),
    kind: 'bullmq',
    streams: [10_000],
    options: (concurrency) => ({ settings: { concurrency } }),
    windowMs: 16_000,
  },
  {
    peer: bare('XCLAIM JUSTID of 500 at a time, every half second', BARE.holding),
    kind: 'bare',
    streams: [1000, 10_000, 100_000],
    options: () => ({ keepsTimes: false, settings: { readCount: 100, refreshMs: TTL_MS / 4 } }),
  },
]

export const heartbeat: Scenario = {
  name: 'heartbeat',
  about: 'commands and processor time to stay the owner of 1 to 100,000 streams',
  budgets: [{ of: 'heartbeats sent', statistic: 'max', bound: 'at most', limit: 5 }],
  limitMs: 8 * 60_000,
  run: async (bench) => {
    for (const way of WAYS) {
      for (const streams of way.streams) {
        await bench.attempt(`to own ${streams} streams`, way.peer, () => measure(bench, way, streams))
      }
    }
    const [ours] = WAYS as readonly [Way]
    const withLook = { ...ours, windowMs: LOOK_WINDOW_MS }
    await bench.attempt(`to own 100000 streams${LOOK}`, OURS, () => measure(bench, withLook, 100_000, true))
  },
}

async function measure(bench: BenchRun, way: Way, streams: number, hasLook = false): Promise<void> {
  const { kind, options, peer, windowMs = WINDOW_MS } = way
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  if (kind === 'bullmq') await addJobs(sandbox.redis, service, streams)
  else await addStreams(sandbox.redis, service, streams)
  const host = await sandbox.host(kind)
  await host.join('m0', { service, ...options(streams) })
  await untilCounted('it owns all', [host], () => total([host], 'taken') >= streams, 120_000)
  await sleep(SETTLE_MS)
  await sandbox.meter.begin()
  await host.measure({ watchesLoop: hasLook })
  await sleep(windowMs)
  const report = await host.report()
  const work = await sandbox.meter.end()
  const sent = sentAtRest(work.calls)
  const of = `to own ${streams} streams${hasLook ? LOOK : ''}`
  const record = (what: string, unit: string, samples: number): void =>
    bench.record({ what: `${what} ${of}`, peer, unit, better: 'lower', samples, x: streams })
  const perSecond = (count: number): number => (count / windowMs) * 1000
  if (peer === OURS && !hasLook) record('heartbeats sent', '/s', perSecond(sent.heartbeats))
  record('commands sent', '/s', perSecond(sent.commands))
  record('Redis processor time', 'ms/s', perSecond(work.cpuMs))
  if (hasLook) record('longest block of the event loop', 'ms', report.blockMs)
  else record('client processor time', 'ms/s', perSecond(report.cpuMs))
}
