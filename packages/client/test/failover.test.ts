/** What a client does about entries that are said to wait, with everything it asks made up. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Failover, type FailoverContext } from '../src/agents/failover.js'
import { systemClock } from '../src/decisions/clock.js'
import type { Portion } from '../src/ownership/dealer.js'
import type { StreamIntake, TakenPortion } from '../src/ownership/stream-intake.js'
import { silentLogger } from './support/silent-logger.js'

const POOL = 'pool:0'
const DEAD = 'redis-consumer-b:t'
const LIMIT = 5
const NOTHING: TakenPortion = { handled: 0, won: 0, mayBeMore: false, waitMs: 0 }

let held: number
let claimStaggerMs: number
let recovered: Promise<void>
let answers: (TakenPortion | Promise<TakenPortion>)[]
let portions: Portion[]
let stop: AbortController
let running: Promise<void>
let failover: Failover

beforeEach(() => {
  vi.spyOn(Math, 'random').mockReturnValue(0.99) // never among those chosen by lot
  held = 0
  recovered = Promise.resolve()
  claimStaggerMs = 60_000 // nothing is left to the late ones
  answers = []
  portions = []
  stop = new AbortController()
  const intake = {
    get dealRoom() {
      return LIMIT - held
    },
    takeDealt: (portion: Portion) => {
      portions.push(portion)
      return Promise.resolve(answers.shift() ?? NOTHING)
    },
  }
  const ownership = {
    get held() {
      return held
    },
    get capacity() {
      return LIMIT - held
    },
  }
  failover = new Failover({
    intake: intake as unknown as StreamIntake,
    ownership,
    told: { count: 0 },
    session: { consumer: 'redis-consumer-a:t', isHeld: () => true },
    signal: stop.signal,
    dampedMs: 0,
    whenRecovered: () => recovered,
    claimMode: 'auto',
    get claimStaggerMs() {
      return claimStaggerMs
    },
    probeIntervalMs: 500,
    lbsIdleTimeMs: 60_000,
    maxOwnedStreams: LIMIT,
    weight: 1,
    clock: systemClock,
    logger: silentLogger,
  } as unknown as FailoverContext)
  running = failover.run()
})
afterEach(async () => {
  stop.abort()
  await running
  vi.restoreAllMocks()
})

it('a client without room remembers what waits, whoever else was chosen to look again', async () => {
  held = LIMIT
  failover.hearWaiting({ consumer: POOL, level: null, living: 100 })
  failover.resume()
  await new Promise(setImmediate)
  expect(portions).toEqual([])
  held = LIMIT - 1
  failover.resume()
  await new Promise(setImmediate)
  expect(portions).toEqual([{ from: POOL, count: 1, idleMs: 0 }])
})

it('a client goes on behind entries that came to nothing', async () => {
  answers = [
    { handled: LIMIT, won: 0, mayBeMore: true, waitMs: 0 },
    { handled: 1, won: 0, mayBeMore: false, waitMs: 0 },
  ]
  failover.hearWaiting({ consumer: POOL, level: 3, living: 100 })
  await expect.poll(() => portions.length).toBe(2)
})

it('a client asks no more where it was given nothing', async () => {
  answers = [{ handled: 0, won: 0, mayBeMore: true, waitMs: 0 }]
  failover.hearWaiting({ consumer: POOL, level: 3, living: 100 })
  await new Promise(setImmediate)
  expect(portions).toHaveLength(1)
})

it('a client has more dealt while it takes what was dealt before, and asks again at once if it hears meanwhile', async () => {
  const answer: ((taken: TakenPortion) => void)[] = []
  answers = [1, 2].map(() => new Promise((resolve) => answer.push(resolve)))
  for (const level of [1, 2, 3]) failover.hearWaiting({ consumer: POOL, level, living: 100 })
  await new Promise(setImmediate)
  expect(portions.map(({ count }) => count)).toEqual([1, 2])
  answer[0]?.(NOTHING)
  await new Promise(setImmediate)
  expect(portions.slice(2)).toEqual([{ from: POOL, count: 3, idleMs: 0 }])
  answer[1]?.(NOTHING)
})

it('a client chosen by lot takes a little later what is left, though it has its share', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0)
  claimStaggerMs = 1
  held = 3
  failover.hearWaiting({ consumer: DEAD, level: 3, living: 100 })
  await expect.poll(() => portions).toEqual([{ from: DEAD, count: LIMIT - held, idleMs: 0 }])
})

it('of the pool it takes only what has waited for long, beyond its share', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0)
  claimStaggerMs = 1
  held = 3
  failover.hearWaiting({ consumer: POOL, level: 3, living: 100 })
  await expect.poll(() => portions).toEqual([{ from: POOL, count: LIMIT - held, idleMs: 2000 }])
})

it('a client that lacks little leaves what waits to those that lack much, for a while', async () => {
  claimStaggerMs = 1
  held = 2
  failover.hearWaiting({ consumer: POOL, level: 4, living: 100, firstLevel: 3 })
  await expect.poll(() => portions).toEqual([{ from: POOL, count: 2, idleMs: 3 }])
  portions = []
  held = 0
  failover.hearWaiting({ consumer: POOL, level: 4, living: 100, firstLevel: 3 })
  await expect.poll(() => portions[0]).toEqual({ from: POOL, count: 4, idleMs: 0 })
})

it('a client that lacks less than half a stream leaves what a plan moves to others, for a while', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0) // a lot that wins
  claimStaggerMs = 1
  held = 2
  failover.hearWaiting({ consumer: 'pool:1', level: 2.4, living: 100 })
  await expect.poll(() => portions[0]).toEqual({ from: 'pool:1', count: 1, idleMs: 3 })
  portions = []
  failover.hearWaiting({ consumer: 'pool:1', level: 2.6, living: 100 })
  await expect.poll(() => portions[0]).toEqual({ from: 'pool:1', count: 1, idleMs: 0 })
})

it('a client asks again when entries are not kept from it any more', async () => {
  answers = [{ handled: 0, won: 0, mayBeMore: true, waitMs: 5 }]
  failover.hearWaiting({ consumer: POOL, level: 1, living: 100 })
  await expect.poll(() => portions.map(({ count }) => count)).toEqual([1, LIMIT])
})

it('a client asks for nothing before it has what its earlier sessions had', async () => {
  let recover: () => void = () => undefined
  recovered = new Promise((resolve) => (recover = resolve))
  failover.hearWaiting({ consumer: POOL, level: 3, living: 100 })
  await new Promise(setImmediate)
  expect(portions).toEqual([])
  held = 2
  recover()
  await expect.poll(() => portions).toEqual([{ from: POOL, count: 1, idleMs: 0 }])
})

it('a client goes by how far what waits reaches, where somebody has looked', async () => {
  held = 2
  failover.hearWaiting({ consumer: POOL, level: 4, fill: 2, living: 100 })
  await new Promise(setImmediate)
  expect(portions).toEqual([])
  failover.hearWaiting({ consumer: POOL, level: 4, fill: 3, living: 100 })
  await expect.poll(() => portions).toEqual([{ from: POOL, count: 1, idleMs: 0 }])
})
