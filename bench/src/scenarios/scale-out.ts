/** Clients join a service whose streams all have owners, and are given their share. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addJobs, addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import type { Budget } from '../figure.js'
import { type Host, total, untilCounted } from '../host.js'
import { bullmq, OURS } from '../peers.js'
import { Pods, podNames } from '../pods.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { EVEN, EVEN_WITHIN_MS } from '../sharing-goals.js'
import { spread } from '../statistics.js'
import { recorder } from './recorder.js'

const BEFORE_MS = 6000
const REST_MS = 10_000

interface Joining {
  readonly before: number
  readonly joining: number
  readonly streams: number
  /** Streams that are added afterwards. */
  readonly later: number
}

const FEW: Joining = { before: 3, joining: 3, streams: 3000, later: 600 }
const MANY: Joining = { before: 9, joining: 1, streams: 10_000, later: 1000 }

export const scaleOut: Scenario = {
  name: 'scale-out',
  about: 'clients join others that own all streams, and are given their share',
  budgets: [...budgetsOf(FEW), ...budgetsOf(MANY)],
  limitMs: 5 * 60_000,
  run: async (bench) => {
    for (const each of [FEW, MANY]) await bench.attempt(nameOf(each), OURS, () => join(bench, each))
    await peer(bench)
  },
}

function nameOf({ before, joining, streams }: Joining): string {
  return `${joining} clients join ${before} that own ${streams}`
}

function budgetsOf(each: Joining): Budget[] {
  const atMost = (what: string, limit: number, statistic: Budget['statistic'] = 'max'): Budget => ({
    of: `${nameOf(each)}: ${what}`,
    statistic,
    bound: 'at most',
    limit,
  })
  return [
    atMost('busiest by mean', EVEN),
    atMost('from the start of their processes', EVEN_WITHIN_MS),
    atMost('moves by the fewest possible', 1.05),
    atMost('moves at rest', 0),
    atMost('a stream without an owner', 100, 'p99'),
    atMost('the longest time a stream had no owner', 500),
  ]
}

async function join(bench: BenchRun, each: Joining): Promise<void> {
  const { before, joining, later, streams } = each
  await using sandbox = await Sandbox.open()
  const pods = new Pods(sandbox)
  await pods.startAll(podNames(before))
  await addStreams(sandbox.redis, pods.service, streams)
  await pods.untilOwned(streams)
  await sleep(BEFORE_MS)
  const sizes = await pods.sizes()
  const share = streams / (before + joining)
  const fewest = sizes.reduce((sum, size) => sum + Math.max(0, Math.ceil(size - share)), 0)
  bench.step(nameOf(each))
  const startMs = sharedNowMs()
  await pods.startAll(podNames(joining, before))
  await sleep(startMs + EVEN_WITHIN_MS + REST_MS - sharedNowMs())
  const moves = await pods.movesSince(startMs)
  const record = recorder(bench, nameOf(each))
  record('busiest by mean', '×', spread(await pods.sizes()))
  record(`from the start of their processes to ${EVEN} times the mean`, 'ms', pods.evenSince(EVEN) - startMs)
  record('from the start of their processes to the last move', 'ms', moves.lastAtMs - startMs)
  record('moves by the fewest possible', '×', moves.total / fewest)
  record('a stream without an owner', 'ms', moves.ownerlessMs)
  record('the longest time a stream had no owner', 'ms', Math.max(...moves.ownerlessMs))
  const restMs = sharedNowMs()
  await sleep(REST_MS)
  record(`moves at rest, in ${REST_MS / 1000} s`, '', (await pods.movesSince(restMs)).total)
  await addStreams(sandbox.redis, pods.service, later, streams)
  await pods.untilOwned(streams + later)
  record(`busiest by mean when ${later} more are owned`, '×', spread(await pods.sizes()))
}

/** A worker of BullMQ keeps the jobs it has. */
async function peer(bench: BenchRun): Promise<void> {
  const { before, joining, streams } = FEW
  const keeping = bullmq('a job stays with its worker')
  await bench.attempt(`${nameOf(FEW)}: busiest by mean`, keeping, async () => {
    await using sandbox = await Sandbox.open()
    const service = sandbox.newService()
    const hosts = await sandbox.hosts('bullmq', before + joining)
    const joinAt = (host: Host, index: number): Promise<void> =>
      host.join(`worker-${index}`, { service, settings: { concurrency: streams / before } })
    await Promise.all(hosts.slice(0, before).map(joinAt))
    await addJobs(sandbox.redis, service, streams)
    await untilCounted('all jobs are under way', hosts, () => total(hosts, 'taken') >= streams)
    await Promise.all(hosts.slice(before).map((host, index) => joinAt(host, before + index)))
    await sleep(EVEN_WITHIN_MS)
    const sizes = hosts.flatMap(({ counts }) => [...counts.values()].map(({ taken }) => taken))
    const what = `${nameOf(FEW)}: busiest by mean`
    bench.record({ what, peer: keeping, unit: '×', better: 'lower', samples: spread(sizes) })
  })
}
