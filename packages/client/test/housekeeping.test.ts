/** The slow tidying of a service, however many clients take turns at it. */
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest'
import type { DeadConsumers } from '../src/agents/dead-consumers.js'
import { Housekeeping } from '../src/agents/housekeeping.js'
import { ScriptedService } from './support/scripted-service.js'

const STREAMS = 2000
const deadConsumers = { removeOld: () => Promise.resolve() } as DeadConsumers

let service: ScriptedService

beforeAll(async () => {
  service = await ScriptedService.start()
})
afterAll(() => service[Symbol.asyncDispose]())
beforeEach(() => service.reset())

/** Another client each time. */
function client(probeIntervalMs: number): Housekeeping {
  const { connection, keys, records, scripts } = service
  return new Housekeeping({ scripts, records, connection, keys, deadConsumers, probeIntervalMs })
}

it('goes through a long lock table though another client does each page', async () => {
  const { keys, redis } = service
  const record = '1-1 1 1 0 0 redis-consumer-gone:t' // its entry is not there
  await redis.hset(
    keys.locks,
    Object.fromEntries(Array.from({ length: STREAMS }, (_, i) => [`s${i}`, record])),
  )
  let pages = 0
  for (; (await redis.hlen(keys.locks)) > 0 && pages < 20; pages++) await client(0).tidy([])
  expect(await redis.hlen(keys.locks)).toBe(0)
  expect(pages).toBeGreaterThan(1)
})

it('is done once in ten rounds, whoever wins them', async () => {
  const { keys, redis } = service
  await client(60_000).tidy([])
  const first = await redis.get(keys.housekeeping)
  expect(first).not.toBeNull()
  await client(60_000).tidy([])
  expect(await redis.get(keys.housekeeping)).toBe(first)
  const [records, members, atMs] = (first as string).split(' ') as [string, string, string]
  await redis.set(keys.housekeeping, `${records} ${members} ${Number(atMs) - 601_000}`)
  await client(60_000).tidy([])
  expect(Number((await redis.get(keys.housekeeping))?.split(' ')[2])).toBeGreaterThanOrEqual(Number(atMs))
})

it('asks about few members at a time, however many Redis hands over as one page', async () => {
  const { keys, redis, scripts } = service
  const members = Array.from({ length: 120 }, (_, i) => [`redis-consumer-${i}`, '- 1 2000 0 1;t'])
  await redis.hset(keys.members, Object.fromEntries(members) as Record<string, string>)
  const asked = vi.spyOn(scripts, 'forgetMembers')
  await client(0).tidy([])
  expect(await redis.exists(keys.members)).toBe(0)
  expect(asked.mock.calls.map(([clientIds]) => clientIds.length)).toEqual([50, 50, 20])
})
