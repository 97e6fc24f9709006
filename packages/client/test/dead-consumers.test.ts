/** Names that sessions leave in the group when their processes crash. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { DeadConsumers } from '../src/agents/dead-consumers.js'
import { type ConsumerName, formatConsumer } from '../src/decisions/consumer-name.js'
import type { Session } from '../src/session/session.js'
import { ScriptedService } from './support/scripted-service.js'
import { silentLogger } from './support/silent-logger.js'

let service: ScriptedService
beforeAll(async () => {
  service = await ScriptedService.start()
})
beforeEach(() => service.reset())
afterAll(() => service[Symbol.asyncDispose]())

const held = { isHeld: () => true } as Session

function cleaner(consumerRetentionMs = 3_600_000): DeadConsumers {
  const { lbs, scripts } = service
  return new DeadConsumers({ lbs, scripts, consumerRetentionMs, logger: silentLogger })
}

function token(): string {
  return Math.random().toString(16).slice(2)
}

async function names(): Promise<string[]> {
  return (await service.lbs.consumers()).map(({ name }) => name)
}

/** Sessions that begin: those that live keep their heartbeat keys. */
async function begin(
  prefix: string,
  count: number,
  { living }: { living: boolean },
): Promise<ConsumerName[]> {
  const { keys, redis } = service
  const sessions = Array.from({ length: count }, (_, i) => {
    return { clientId: `redis-consumer-${prefix}-${i}`, token: token() }
  })
  const pipeline = redis.pipeline()
  for (const session of sessions) {
    if (living) pipeline.set(keys.heartbeat(session.clientId), session.token)
    pipeline.xgroup('CREATECONSUMER', keys.lbs, keys.group, formatConsumer(session))
  }
  await pipeline.exec()
  return sessions
}

it('one session that begins brings thousands of names down to twice the living and a hundred', async () => {
  const living = (await begin('living', 300, { living: true })).map(formatConsumer)
  await service.add('s')
  await service.read({ clientId: 'redis-consumer-fallen', token: 't' })
  await begin('crashed', 5000, { living: false })
  await cleaner().removeExcess(held)
  const left = await names()
  expect(left.length).toBeLessThanOrEqual(2 * 300 + 100)
  expect(left).toEqual(expect.arrayContaining([...living, 'redis-consumer-fallen:t']))
  expect(await service.pending()).toHaveLength(1)
})

it('however often one process begins a session and crashes, few names are left', async () => {
  const living = (await begin('living', 40, { living: true })).map(formatConsumer)
  for (let i = 0; i < 400; i++) {
    await cleaner().removeExcess(held)
    await begin(`crash-loop-${i}`, 1, { living: false })
    if (i % 20 === 0) expect((await names()).length).toBeLessThanOrEqual(2 * 40 + 100 + 1)
  }
  expect(await names()).toEqual(expect.arrayContaining(living))
  expect((await names()).length).toBeLessThanOrEqual(2 * 40 + 100 + 1)
})

it('a small group keeps the names of the dead until they are old', async () => {
  await begin('crashed', 90, { living: false })
  await cleaner().removeExcess(held)
  await cleaner().removeOld()
  expect(await names()).toHaveLength(90)
  await cleaner(0).removeOld()
  expect(await names()).toEqual([])
})

it('a fleet in which all are alive is not searched to its end by each that begins', async () => {
  await begin('living', 1000, { living: true })
  await service.redis.config('RESETSTAT')
  await cleaner().removeExcess(held)
  const stats = await service.redis.info('commandstats')
  const calls = Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1])
  expect(calls).toBeLessThanOrEqual(4)
  expect(await names()).toHaveLength(1000)
})

it('there is nothing to remove without a stream, and a session that is over removes nothing', async () => {
  await begin('crashed', 300, { living: false })
  await cleaner().removeExcess({ isHeld: () => false } as Session)
  expect(await names()).toHaveLength(300)
  await service.redis.flushall()
  await cleaner().removeExcess(held)
  await cleaner(0).removeOld()
  expect(await service.redis.exists(service.keys.lbs)).toBe(0)
})
