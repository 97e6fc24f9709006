/** The slow tidying of a service, however many clients take turns at it. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { DeadConsumers } from '../src/agents/dead-consumers.js'
import { Housekeeping } from '../src/agents/housekeeping.js'
import { ScriptedService } from './support/scripted-service.js'

const STREAMS = 2000
const deadConsumers = { removeOld: () => Promise.resolve() } as DeadConsumers

let service: ScriptedService

beforeAll(async () => {
  service = await ScriptedService.start()
  await service.reset()
})
afterAll(() => service[Symbol.asyncDispose]())

it('goes through a long lock table though another client does each page', async () => {
  const { connection, keys, records, redis, scripts } = service
  const record = '1-1 1 1 0 0 redis-consumer-gone:t' // its entry is not there
  await redis.hset(
    keys.locks,
    Object.fromEntries(Array.from({ length: STREAMS }, (_, i) => [`s${i}`, record])),
  )
  let clients = 0
  while ((await redis.hlen(keys.locks)) > 0 && clients < 20) {
    const context = { scripts, records, connection, keys, deadConsumers }
    const housekeeping = new Housekeeping(context)
    const before = await redis.get(keys.housekeeping)
    while ((await redis.get(keys.housekeeping)) === before) await housekeeping.tidy([])
    clients++
  }
  expect(await redis.hlen(keys.locks)).toBe(0)
  expect(clients).toBeGreaterThan(1)
})

it('is done in one of ten rounds', async () => {
  const { connection, keys, records, redis, scripts } = service
  const housekeeping = new Housekeeping({ scripts, records, connection, keys, deadConsumers })
  let pages = 0
  for (let round = 0; round < 50; round++) {
    await redis.del(keys.housekeeping)
    await housekeeping.tidy([])
    pages += await redis.exists(keys.housekeeping)
  }
  expect(pages).toBe(5)
})
