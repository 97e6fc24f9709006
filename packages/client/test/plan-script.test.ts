/** plan.lua on a real server: when a plan is published. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import type { RebalancePlan } from '../src/decisions/rebalance-plan.js'
import type { PlanRules } from '../src/redis/service-scripts.js'
import { ScriptedService } from './support/scripted-service.js'

const PLAN: RebalancePlan = { level: 5, living: 2, inFlight: 3, keep: { 'redis-consumer-a:t': 5 } }
const RULES: PlanRules = {
  members: 'a b',
  youngestMs: 3_600_000,
  settleMs: 60_000,
  moves: 5,
  standsMs: 60_000,
  isForced: false,
}

let service: ScriptedService

beforeAll(async () => {
  service = await ScriptedService.start()
})
afterAll(() => service[Symbol.asyncDispose]())
beforeEach(() => service.reset())

/** As if the same clients had been there for so long. */
async function passed(ms: number): Promise<void> {
  const since = Number(await service.redis.hget(service.keys.plan, 'since'))
  await service.redis.hset(service.keys.plan, 'since', String(since - ms))
}

it('is published when the same clients have been there for long enough', async () => {
  const subscriber = service.redis.duplicate()
  await subscriber.subscribe(service.keys.failoverChannel)
  const heard = new Promise((resolve) => subscriber.once('message', (_, message) => resolve(message)))
  const publish = (rules: Partial<PlanRules> = {}) =>
    service.scripts.publishPlan(PLAN, { ...RULES, ...rules })
  expect(await publish()).toBe(60_000)
  expect(await service.scripts.plan()).toBeNull()
  await passed(59_000)
  expect(await publish({ members: 'a b c' })).toBe(60_000)
  await passed(60_000)
  expect(await publish({ members: 'a b c' })).toBe(0)
  expect(JSON.parse(String(await heard))).toEqual({ type: 'plan' })
  expect(await service.scripts.plan()).toEqual(PLAN)
  expect(await service.redis.pttl(service.keys.plan)).toBeGreaterThan(50_000)
  subscriber.disconnect()
})

it('waits for as long as the youngest client still lacks, not from when it was noticed', async () => {
  const publish = (rules: Partial<PlanRules>) => service.scripts.publishPlan(PLAN, { ...RULES, ...rules })
  expect(await publish({ youngestMs: 20_000 })).toBe(40_000)
  expect(await publish({ youngestMs: 59_000 })).toBeGreaterThan(39_000)
  await service.redis.hset(service.keys.plan, 'seen', '0')
  expect(await publish({ members: 'a b c', youngestMs: 50_000 })).toBe(10_000)
  // One more has gone than has come since the last look: nobody knows when.
  expect(await publish({ members: 'a b', youngestMs: 50_000 })).toBe(60_000)
})

it('is published ever more seldom while it does not help', async () => {
  const publish = (moves: number, isForced = false) =>
    service.scripts.publishPlan(PLAN, { ...RULES, settleMs: 0, moves, isForced })
  expect(await publish(5)).toBe(0)
  expect(await publish(5)).toBeGreaterThan(0)
  expect(await publish(4)).toBe(0)
  const pauses: number[] = []
  for (let times = 0; times < 3; times++) {
    await service.redis.hset(service.keys.plan, 'next', '0')
    expect(await publish(4)).toBe(0)
    pauses.push(await publish(4))
  }
  for (const [index, pause] of pauses.entries()) {
    expect(pause).toBeGreaterThan(1500 * 2 ** index)
    expect(pause).toBeLessThanOrEqual(2000 * 2 ** index)
  }
  expect(await publish(4, true)).toBe(0)
})
