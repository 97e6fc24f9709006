/**
 * What happens to a fleet that shares long-lived streams: it grows and shrinks, pods are replaced and crash, owners do not
 * listen, a planner stands still, Redis restarts, all of it while streams move. Each is something done to a world, as in
 * nemesis.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { SeededRandom } from '@redis-stream-client/test/support/seeded-random'
import type { Fault } from './nemesis.js'
import { TTL_MS, type World } from './world.js'

const LEAST_WORKERS = 3
const GREATEST_WORKERS = 7
/** Until the owners of a fleet that has grown are asked, if they are: clients have to be the same for a while first. */
const PLAN_MS = 4000
const CRASHES = 4

export const SCALING: Readonly<Record<string, Fault>> = {
  async scaleOut(world, random) {
    await Promise.all(Array.from({ length: Math.ceil(random.between(0, 3)) }, () => grow(world, random)))
    await seesMoves(world)
  },
  async scaleIn(world, random) {
    for (let times = random.between(0, 2); times > 0; times--) {
      if (world.workers.length > LEAST_WORKERS) await world.dismissWorker(random.pick(world.workers))
    }
  },
  /** A deploy that starts the new pod before it stops the old one. */
  async surge(world, random) {
    for (const worker of [...world.workers]) {
      await world.addWorker()
      await sleep(random.between(0, TTL_MS))
      if (world.workers.includes(worker)) await world.dismissWorker(worker)
    }
  },
  async crashLoop(world, random) {
    let worker = await world.addWorker()
    for (let crashes = 0; crashes < CRASHES; crashes++) {
      await sleep(random.between(0, 2 * TTL_MS))
      await world.killWorker(worker)
      worker = await world.addWorker(worker.name)
    }
    await world.dismissWorker(worker)
  },
  /** Owners go on with their work for longer than the limit, whoever asks them to stop. */
  async ignoreSignals(world, random) {
    const ms = random.between(1, 4) * TTL_MS
    for (const worker of world.workers) worker.tell({ type: 'ignoreSignals', ms })
    await Promise.all([grow(world, random), sleep(ms)])
  },
  /** Whoever has planned last stands still while its plan is carried out. */
  async stopPlanner(world, random) {
    await grow(world, random)
    await seesMoves(world)
    const planner = world.lastPlanner ?? random.pick(world.workers)
    planner.program.pause()
    await sleep(random.between(0.5, 3) * TTL_MS)
    planner.program.resume()
  },
  async restartWhileMoving(world, random) {
    await grow(world, random)
    await seesMoves(world)
    await world.server.restart({ data: 'saved' })
  },
  /** What owners are answered takes long: others have their streams before they know. */
  async moveSlowly(world, random) {
    for (const { proxy } of world.workers) proxy.delay(random.between(20, 120))
    await grow(world, random)
    await seesMoves(world)
    await sleep(TTL_MS)
    for (const { proxy } of world.workers) proxy.delay(0)
  },
}

/** One more worker, in the place of another if there are many. */
async function grow(world: World, random: SeededRandom): Promise<void> {
  if (world.workers.length >= GREATEST_WORKERS) await world.dismissWorker(random.pick(world.workers))
  await world.addWorker()
}

/** Waits until an owner has been asked to give streams, or it is clear that none is. */
async function seesMoves(world: World): Promise<void> {
  const before = world.given
  const untilMs = performance.now() + PLAN_MS
  while (world.given === before && performance.now() < untilMs) await sleep(10)
}
