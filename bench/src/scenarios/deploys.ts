/** Deploys: each client of a service is replaced by a new one, one after the other. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import type { Budget } from '../figure.js'
import { OURS } from '../peers.js'
import { Pods, podNames } from '../pods.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { EVEN_WITHIN_MS } from '../sharing-goals.js'
import { spread } from '../statistics.js'
import { recorder } from './recorder.js'

const CLIENTS = 6
const STREAMS = 3000
const BEFORE_MS = 6000
const AWAY_MS = 500
const PAUSE_MS = 2000
const WAYS = ['cooperative', 'off'] as const

type Way = (typeof WAYS)[number]

/** Replaces one pod. Resolves when it is the turn of the next. */
type Replace = (pods: Pods, name: string) => Promise<void>

interface Deploy {
  readonly name: string
  readonly about: string
  readonly replace: Replace
  /** Moves a stream on average, the most of one stream, and the busiest by the mean at the end. */
  readonly limits: Readonly<Record<Way, readonly [mean: number, most: number, end: number]>>
}

export const rollingRestart: Scenario = scenarioOf({
  name: 'rolling-restart',
  about: `${CLIENTS} clients with ${STREAMS} streams are restarted one by one`,
  replace: async (pods, name) => {
    await pods.close(name)
    await sleep(AWAY_MS)
    await pods.start(name)
    await sleep(PAUSE_MS)
  },
  limits: { cooperative: [2, 3, 1.05], off: [2, 3, 1.25] },
})

export const surge: Scenario = scenarioOf({
  name: 'surge',
  about: `${CLIENTS} clients with ${STREAMS} streams are replaced, each new one starting before the old one stops`,
  replace: async (pods, name) => {
    await pods.start(`${name}-new`)
    await sleep(PAUSE_MS)
    await pods.close(name)
  },
  limits: { cooperative: [1, 1, 1.1], off: [1, 1, 1.1] },
})

function scenarioOf({ about, limits, name, replace }: Deploy): Scenario {
  return {
    name,
    about,
    budgets: WAYS.flatMap((way) => budgetsOf(way, limits[way])),
    limitMs: 4 * 60_000,
    run: async (bench) => {
      for (const way of WAYS) await bench.attempt(way, OURS, () => deploy(bench, way, replace))
    },
  }
}

function budgetsOf(way: Way, [mean, most, end]: readonly [number, number, number]): Budget[] {
  const atMost = (what: string, limit: number): Budget => ({
    of: `${way}: ${what}`,
    statistic: 'max',
    bound: 'at most',
    limit,
  })
  return [
    atMost('moves a stream', mean),
    atMost('moves of the stream that moved most', most),
    atMost('busiest by mean at the end', end),
  ]
}

async function deploy(bench: BenchRun, way: Way, replace: Replace): Promise<void> {
  await using sandbox = await Sandbox.open()
  const pods = new Pods(sandbox, { rebalance: way })
  const names = podNames(CLIENTS)
  await pods.startAll(names)
  await addStreams(sandbox.redis, pods.service, STREAMS)
  await pods.untilOwned(STREAMS)
  await sleep(BEFORE_MS)
  const startMs = sharedNowMs()
  for (const [index, name] of names.entries()) {
    bench.step(`${way} (${index + 1} of ${CLIENTS})`)
    await replace(pods, name)
  }
  await sleep(EVEN_WITHIN_MS)
  await pods.untilOwned(STREAMS)
  const moves = await pods.movesSince(startMs)
  const record = recorder(bench, way)
  record('moves a stream', '', moves.total / STREAMS)
  record('moves of the stream that moved most', '', Math.max(0, ...moves.ofEach.values()))
  record('busiest by mean at the end', '×', spread(await pods.sizes()))
  record('a stream without an owner', 'ms', moves.ownerlessMs)
}
