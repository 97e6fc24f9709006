/** Clients that start at about the same time, none of which knows yet how many there are. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { crashLoop } from '../crashing-pod.js'
import type { Budget } from '../figure.js'
import { total, untilCounted } from '../host.js'
import { BARE, bare, OURS } from '../peers.js'
import { Pods, podNames } from '../pods.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { CRASH_LOOP_LIMITS, EVEN_WITHIN_MS } from '../sharing-goals.js'
import { spread } from '../statistics.js'
import { recorder } from './recorder.js'

const FEW_STREAMS = 30
const FEW_CLIENTS = 3
const BACKLOG = 2000
const CLIENTS = 10
const RUNS = 3
const CRASH_LOOP_MS = 60_000
const FEW = `${FEW_STREAMS} streams, ${FEW_CLIENTS} clients that were just started`
const CRASHING = 'a client that crashes every 4 s beside 5'
const WAYS = ['cooperative', 'off'] as const

const PLACES = {
  'one process': (pods: Pods) => pods.startTogether(podNames(CLIENTS)),
  'processes of their own': (pods: Pods) => pods.startAll(podNames(CLIENTS)),
} as const

export const startTogether: Scenario = {
  name: 'start-together',
  about:
    'clients that start at the same time share what waits; one that crashes again and again gets next to nothing',
  budgets: [
    atMost(`${FEW}: busiest minus least`, 2),
    ...Object.keys(PLACES).flatMap((place) =>
      WAYS.map((way) => atMost(`${backlogOf(place, way)}: busiest by mean`, 1.25)),
    ),
    atMost(`${CRASHING}: its share`, CRASH_LOOP_LIMITS.share),
    atMost(`${CRASHING}: busiest by mean`, CRASH_LOOP_LIMITS.spread),
  ],
  limitMs: 8 * 60_000,
  run: async (bench) => {
    for (const when of ['that wait', 'added when all have begun'] as const) {
      await bench.attempt(`${FEW}, ${when}`, OURS, () => few(bench, when))
    }
    for (const [place, start] of Object.entries(PLACES)) {
      for (const way of WAYS) {
        await bench.attempt(backlogOf(place, way), OURS, () =>
          backlog(bench, backlogOf(place, way), way, start),
        )
      }
    }
    await barePeer(bench)
    await bench.attempt(CRASHING, OURS, () => crashing(bench))
  },
}

function atMost(of: string, limit: number): Budget {
  return { of, statistic: 'max', bound: 'at most', limit }
}

function backlogOf(place: string, way: string): string {
  return `${CLIENTS} clients begin beside a backlog of ${BACKLOG}, in ${place}, ${way}`
}

async function few(bench: BenchRun, when: 'that wait' | 'added when all have begun'): Promise<void> {
  const samples: number[] = []
  for (let run = 1; run <= RUNS; run++) {
    await using sandbox = await Sandbox.open()
    const pods = new Pods(sandbox)
    if (when === 'that wait') await addStreams(sandbox.redis, pods.service, FEW_STREAMS)
    const startMs = sharedNowMs()
    await pods.startAll(podNames(FEW_CLIENTS))
    if (when !== 'that wait') await addStreams(sandbox.redis, pods.service, FEW_STREAMS)
    await sleep(startMs + EVEN_WITHIN_MS - sharedNowMs())
    await pods.untilOwned(FEW_STREAMS)
    const sizes = await pods.sizes()
    samples.push(Math.max(...sizes) - Math.min(...sizes))
  }
  recorder(bench, FEW)(`busiest minus least, streams ${when}`, '', samples)
}

async function backlog(
  bench: BenchRun,
  name: string,
  rebalance: (typeof WAYS)[number],
  start: (pods: Pods) => Promise<void>,
): Promise<void> {
  const spreads: number[] = []
  const tookMs: number[] = []
  for (let run = 1; run <= RUNS; run++) {
    await using sandbox = await Sandbox.open()
    const pods = new Pods(sandbox, { rebalance })
    await addStreams(sandbox.redis, pods.service, BACKLOG)
    await start(pods)
    const begunMs = sharedNowMs()
    await pods.untilOwned(BACKLOG)
    spreads.push(spread(await pods.sizes()))
    tookMs.push(pods.lastTakenAtMs - begunMs)
  }
  const record = recorder(bench, name)
  record('busiest by mean when the last is owned', '×', spreads)
  record('from when all have sessions to the last owned', 'ms', tookMs)
}

/** Bare reads of clients that join at the same moment in one process. */
async function barePeer(bench: BenchRun): Promise<void> {
  const name = backlogOf('one process', 'cooperative')
  const reading = bare('XREADGROUP COUNT 10', BARE.reading)
  await bench.attempt(name, reading, async () => {
    await using sandbox = await Sandbox.open()
    const service = sandbox.newService()
    await addStreams(sandbox.redis, service, BACKLOG)
    const host = await sandbox.host('bare')
    const join = (member: string): Promise<void> =>
      host.join(member, { service, settings: { readCount: 10 } })
    await Promise.all(podNames(CLIENTS).map(join))
    await untilCounted('all are taken', [host], () => total([host], 'taken') >= BACKLOG)
    const sizes = [...host.counts.values()].map(({ taken }) => taken)
    const what = `${name}: busiest by mean when the last is owned`
    bench.record({ what, peer: reading, unit: '×', better: 'lower', samples: spread(sizes) })
  })
}

async function crashing(bench: BenchRun): Promise<void> {
  const found = await crashLoop(CRASH_LOOP_MS, EVEN_WITHIN_MS, (text) => bench.step(text))
  const record = recorder(bench, CRASHING)
  record('its share of the streams', '', found.sharesOfCrashing)
  record(`moves in ${CRASH_LOOP_MS / 1000} s`, '', found.moves)
  record('busiest by mean of the others after one more has joined', '×', found.spreadAfterJoin)
}
