/** How the costs grow with the number of clients and of streams: what the plots are drawn from. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { latest, total, untilCounted } from '../host.js'
import { OURS } from '../peers.js'
import { totalCalls } from '../redis-meter.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { sentAtRest } from '../sent-commands.js'
import { joinAll, takeOver } from './mass-takeover.js'

const CLIENTS = [1, 10, 50, 200]
const STREAMS = [100, 1000, 10_000, 100_000]
const STREAMS_AMONG_CLIENTS = 1000
const CLIENTS_AMONG_STREAMS = 9
const HOSTS = 4
const WINDOW_MS = 4000
const SETTLE_MS = 2000
/** Longer than the TTL: every session is lost. */
const OUTAGE_MS = 3500

export const growth: Scenario = {
  name: 'growth',
  about: 'takeover time, probe and heartbeat cost by number of clients and of streams',
  budgets: [],
  limitMs: 12 * 60_000,
  run: async (bench) => {
    const attempt = (what: string, measure: () => Promise<void>) => bench.attempt(what, OURS, measure)
    for (const clients of CLIENTS) await attempt(`${clients} clients at rest`, () => rest(bench, clients))
    for (const clients of CLIENTS) {
      await attempt(`takeover by ${clients} clients`, () => takeOverBy(bench, clients))
    }
    for (const clients of CLIENTS) {
      await attempt(`${clients} clients lose Redis`, () => outage(bench, clients))
    }
    for (const streams of STREAMS) {
      await attempt(`takeover of ${streams} streams`, () => takeOverOf(bench, streams))
    }
  },
}

function auto(): { settings: { claimMode: string } } {
  return { settings: { claimMode: 'auto' } }
}

async function takeOverBy(bench: BenchRun, clients: number): Promise<void> {
  const hosts = Math.min(HOSTS, clients)
  const { ownedAgainMs, work } = await takeOver(STREAMS_AMONG_CLIENTS, clients, hosts, auto())
  const of = `${STREAMS_AMONG_CLIENTS} streams by ${clients} clients`
  const common = { peer: OURS, better: 'lower', x: clients } as const
  bench.record({ what: `takeover of ${of}`, unit: 'ms', samples: ownedAgainMs, ...common })
  const perStream = totalCalls(work.calls) / STREAMS_AMONG_CLIENTS
  bench.record({ what: `commands per stream, takeover of ${of}`, unit: '', samples: perStream, ...common })
}

async function takeOverOf(bench: BenchRun, streams: number): Promise<void> {
  const { ownedAgainMs } = await takeOver(streams, CLIENTS_AMONG_STREAMS, HOSTS, auto())
  const what = `takeover of ${streams} streams by ${CLIENTS_AMONG_STREAMS} clients`
  bench.record({ what, peer: OURS, unit: 'ms', better: 'lower', samples: ownedAgainMs, x: streams })
}

/** A fleet that has nothing to do: what heartbeats, probes and waiting reads cost. */
async function rest(bench: BenchRun, clients: number): Promise<void> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const hosts = await sandbox.hosts('ours', Math.min(HOSTS, clients))
  await joinAll(hosts, clients, { service })
  await addStreams(sandbox.redis, service, STREAMS_AMONG_CLIENTS)
  await untilCounted('all are owned', hosts, () => total(hosts, 'taken') >= STREAMS_AMONG_CLIENTS)
  await sleep(SETTLE_MS)
  await sandbox.meter.begin()
  await sleep(WINDOW_MS)
  const work = await sandbox.meter.end()
  const sent = sentAtRest(work.calls)
  const record = (what: string, unit: string, amount: number): void =>
    bench.record({
      what: `${what}, ${clients} clients at rest`,
      peer: OURS,
      unit,
      better: 'lower',
      samples: amount,
      x: clients,
    })
  record('commands sent', '/s', (sent.commands / WINDOW_MS) * 1000)
  record('heartbeats sent per client', '/s', (sent.heartbeats / clients / WINDOW_MS) * 1000)
  record(
    'probe scripts that read the roster',
    '/s',
    ((work.calls['xinfo|consumers'] ?? 0) / WINDOW_MS) * 1000,
  )
  record('Redis processor time', 'ms/s', (work.cpuMs / WINDOW_MS) * 1000)
}

/** Redis stands still until all clients have lost their sessions, and all of them begin again at the same moment. */
async function outage(bench: BenchRun, clients: number): Promise<void> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const hosts = await sandbox.hosts('ours', Math.min(HOSTS, clients))
  await joinAll(hosts, clients, { service, ...auto() })
  await addStreams(sandbox.redis, service, STREAMS_AMONG_CLIENTS)
  await untilCounted('all are owned', hosts, () => total(hosts, 'taken') >= STREAMS_AMONG_CLIENTS)
  await sleep(SETTLE_MS)
  sandbox.server.pause()
  await sleep(OUTAGE_MS)
  sandbox.server.resume()
  const resumedAtMs = sharedNowMs()
  const owned = (): number => total(hosts, 'taken') - total(hosts, 'disowned')
  await untilCounted('all are disowned', hosts, () => total(hosts, 'disowned') >= STREAMS_AMONG_CLIENTS)
  await untilCounted('all are owned again', hosts, () => owned() >= STREAMS_AMONG_CLIENTS, 120_000)
  bench.record({
    what: `${STREAMS_AMONG_CLIENTS} streams owned again by ${clients} clients that had all lost Redis`,
    peer: OURS,
    unit: 'ms',
    better: 'lower',
    samples: latest(hosts, 'lastTakenAtMs') - resumedAtMs,
    x: clients,
  })
}
