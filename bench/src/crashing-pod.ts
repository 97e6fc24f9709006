/** One pod of a service crashes again and again, and at last another joins that does not. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStreams } from './assignments.js'
import { sharedNowMs } from './clock.js'
import { Pods, podNames } from './pods.js'
import { Sandbox } from './sandbox.js'
import { spread } from './statistics.js'

const HEALTHY = 5
const STREAMS = 1000
/** From one start of the crashing pod to the next. */
const CYCLE_MS = 4000
const CRASHING = 'crashing'
const BEFORE_MS = 6000
/** Until the last streams of the crashing pod are noticed. */
const AFTER_KILL_MS = 300

export interface CrashLoop {
  readonly crashes: number
  /** The share of all streams that the crashing pod has owned, of each time it lived the share it had at its end. */
  readonly sharesOfCrashing: readonly number[]
  /** How often streams have moved before the sixth healthy pod came. */
  readonly moves: number
  /** The busiest of the healthy pods by their mean, so long after the sixth had been started. */
  readonly spreadAfterJoin: number
}

/** Lets a pod crash for so long beside healthy ones, then starts one more, and looks after `afterJoinMs`. */
export async function crashLoop(
  durationMs: number,
  afterJoinMs: number,
  step: (text: string) => void,
): Promise<CrashLoop> {
  await using sandbox = await Sandbox.open()
  const pods = new Pods(sandbox)
  await pods.startAll(podNames(HEALTHY))
  await addStreams(sandbox.redis, pods.service, STREAMS)
  await pods.untilOwned(STREAMS)
  await sleep(BEFORE_MS)
  const startMs = sharedNowMs()
  const sharesOfCrashing: number[] = []
  const crash = async (): Promise<void> => {
    const bornMs = sharedNowMs()
    await pods.start(CRASHING)
    await sleep(bornMs + CYCLE_MS - AFTER_KILL_MS - sharedNowMs())
    const sizes = await pods.sizes()
    sharesOfCrashing.push((sizes[pods.names.indexOf(CRASHING)] as number) / STREAMS)
    await pods.kill(CRASHING)
    await sleep(bornMs + CYCLE_MS - sharedNowMs())
    step(`${sharesOfCrashing.length} crashes, ${Math.max(...sharesOfCrashing) * STREAMS} streams at most`)
  }
  while (sharedNowMs() < startMs + durationMs) await crash()
  const { total } = await pods.movesSince(startMs)
  const crashes = sharesOfCrashing.length
  const joinMs = sharedNowMs()
  let isOver = false
  const crashing = (async () => {
    while (!isOver) await crash()
  })()
  await pods.start(`pod-${HEALTHY}`)
  await sleep(joinMs + afterJoinMs - sharedNowMs())
  const healthy = podNames(HEALTHY + 1)
  const sizes = await pods.sizes()
  const ofHealthy = pods.names.flatMap((name, index) =>
    healthy.includes(name) ? [sizes[index] as number] : [],
  )
  isOver = true
  await crashing
  return { crashes, sharesOfCrashing, moves: total, spreadAfterJoin: spread(ofHealthy) }
}
