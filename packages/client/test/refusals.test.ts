/** Redis refuses to have an entry taken: which refusals are the entry's fault, and which are not. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { type DeadLetter, LbsProducer, RedisStreamClient } from '../src/index.js'
import { Refusals } from '../src/ownership/refusals.js'
import { ServiceScripts } from '../src/redis/service-scripts.js'
import type { Assignment } from '../src/redis/stream-scripts.js'

const OPTIONS = {
  consumerId: 'a',
  heartbeatTtlMs: 4000,
  claimMode: 'auto',
  closeTimeoutMs: 500,
  logger: pino({ level: 'silent' }),
} as const

let server: RedisServer
let redis: Redis
beforeAll(async () => {
  server = await RedisServer.start()
  redis = server.client()
})
beforeEach(() => redis.flushall())
afterEach(() => vi.restoreAllMocks())
afterAll(() => server[Symbol.asyncDispose]())

/** Has takes refused as a server or proxy would; answers how many were. */
function refuse(isRefused: (assignments: readonly Assignment[]) => boolean): { count: number } {
  const refused = { count: 0 }
  const take = Reflect.get(ServiceScripts.prototype, 'take') as ServiceScripts['take']
  vi.spyOn(ServiceScripts.prototype, 'take').mockImplementation(function (this: ServiceScripts, ...args) {
    if (!isRefused(args[1])) return take.apply(this, args)
    refused.count++
    return Promise.reject(Object.assign(new Error('ERR upstream failure'), { name: 'ReplyError' }))
  })
  return refused
}

async function clientWith(letters: DeadLetter[] = []): Promise<RedisStreamClient> {
  const client = new RedisStreamClient(server.client(), 'orders', OPTIONS)
  client.on('deadLetter', (letter) => letters.push(letter))
  await client.init()
  return client
}

const names = (assignments: readonly Assignment[]): string[] =>
  assignments.map(({ dataStreamName }) => dataStreamName)

describe('a take that Redis refuses', () => {
  it('once or twice leaves the entry pending, and it is taken soon', async () => {
    const refused = refuse((assignments) => names(assignments).includes('s') && refused.count < 2)
    await using client = await clientWith()
    await new LbsProducer(redis, 'orders').add('s')
    await eventually('it is owned', () => client.owned.has('s'))
    expect(refused.count).toBe(2)
    expect(await redis.xlen('orders-dead')).toBe(0)
  })

  it('of entries that were dealt does not last longer for them than for others', async () => {
    await using client = await clientWith()
    await new LbsProducer(redis, 'orders').add('first')
    await eventually('the client has begun', () => client.owned.has('first'))
    let isRefusing = true
    const refused = refuse(() => isRefusing)
    await redis
      .multi()
      .xadd('orders-input', '*', 'lbs-input', '{"DataStreamName":"s"}')
      .xreadgroup('GROUP', 'orders-group', 'redis-consumer-dead:t', 'STREAMS', 'orders-input', '>')
      .exec()
    await eventually('it was dealt, and no entry is to blame', () => refused.count > 1)
    isRefusing = false
    await eventually('it is owned', () => client.owned.has('s'))
  })

  it('does not hold up the entries that were read with it', async () => {
    const refused = refuse((assignments) => names(assignments).includes('s'))
    const producer = new LbsProducer(redis, 'orders')
    for (const name of ['before', 's', 'after']) await producer.add(name)
    await using client = await clientWith()
    await eventually('the others are owned', () => client.owned.size === 2)
    expect(refused.count).toBeGreaterThan(0)
    expect([...client.owned.keys()].sort()).toEqual(['after', 'before'])
    expect(await redis.xlen('orders-dead')).toBe(0)
  })

  it('rejects a claim with what Redis says, and the stream can be claimed afterwards', async () => {
    await redis.xgroup('CREATE', 'orders-input', 'orders-group', '0', 'MKSTREAM')
    const idInLbs = await new LbsProducer(redis, 'orders').add('s')
    await redis.xreadgroup('GROUP', 'orders-group', 'redis-consumer-b:t', 'STREAMS', 'orders-input', '>')
    const refused = refuse((assignments) => names(assignments).includes('s') && refused.count < 1)
    await using client = new RedisStreamClient(server.client(), 'orders', { ...OPTIONS, claimMode: 'manual' })
    await client.init()
    const payload = { dataStreamName: 's', idInLbs, additionalInfo: {} }
    await expect(client.claim(payload)).rejects.toMatchObject({ code: 'REDIS_ERROR' })
    expect(await client.claim(payload)).toMatchObject({ dataStreamName: 's' })
    expect(await redis.xlen('orders-dead')).toBe(0)
  })

  it('for every entry there is blames none, however often it does', async () => {
    const blame = vi.spyOn(Refusals.prototype, 'add').mockReturnValue(true)
    const refused = refuse(() => true)
    await using client = await clientWith()
    await new LbsProducer(redis, 'orders').add('s')
    await eventually('it was tried often', () => refused.count > 12)
    expect(blame).not.toHaveBeenCalled()
    expect(client.owned.size).toBe(0)
    expect(await redis.xlen('orders-dead')).toBe(0)
  })

  it('again and again for one entry, and not for others, puts that one with the dead letters', async () => {
    const letters: DeadLetter[] = []
    vi.spyOn(Refusals.prototype, 'add').mockReturnValueOnce(false).mockReturnValue(true)
    refuse((assignments) => names(assignments).includes('s'))
    await using client = await clientWith(letters)
    const producer = new LbsProducer(redis, 'orders')
    await producer.add('s')
    await producer.add('other')
    await eventually('the letter', () => letters.length === 1)
    expect(letters).toMatchObject([{ dataStreamName: 's', reason: 'unserviceable' }])
    await eventually('the other is owned', () => client.owned.has('other'))
  })

  it.each([
    ['its lock record is damaged', () => redis.hset('orders-locks', 's', 'nonsense')],
    ['its backlog is something else', () => redis.set('orders-backlog:s', 'x')],
    ['what came late of its backlog is something else', () => redis.set('orders-late:s', 'x')],
  ])('because %s puts the entry with the dead letters at once', async (_, damage) => {
    const counted = vi.spyOn(Refusals.prototype, 'add')
    await using client = await clientWith()
    const producer = new LbsProducer(redis, 'orders')
    const first = await producer.add('s')
    await eventually('it is owned', () => client.owned.has('s'))
    await damage()
    // The second has to wait, behind one with a greater id.
    await redis.rpush('orders-backlog:s', '["99999999999999-0","n","1"]').catch(() => 0)
    const second = await producer.add('s')
    await eventually('a dead letter', () => redis.xlen('orders-dead'))
    const [[, fields] = ['', []]] = await redis.xrange('orders-dead', '-', '+')
    expect(fields).toEqual(expect.arrayContaining(['unserviceable', second]))
    expect(fields).not.toContain(first)
    expect(counted).not.toHaveBeenCalled()
  })
})

describe('refusals', () => {
  function counter(): { refusals: Refusals; pass: (ms: number) => void } {
    let nowMs = 0
    const clock = { now: () => ({ monotonicMs: nowMs, wallMs: nowMs }) }
    return {
      refusals: new Refusals(clock),
      pass: (ms) => {
        nowMs += ms
      },
    }
  }

  it('make an entry the cause only if there are many, and over some time', () => {
    const { pass, refusals } = counter()
    for (let i = 0; i < 50; i++) expect(refusals.add('fast')).toBe(false)
    pass(10_000)
    expect(refusals.add('rare')).toBe(false)
    pass(10_000)
    expect(refusals.add('rare')).toBe(false)
    expect(refusals.add('fast')).toBe(true)
  })

  it('begin anew once Redis has answered for the entry', () => {
    const { pass, refusals } = counter()
    for (let i = 0; i < 50; i++) refusals.add('s')
    pass(10_000)
    refusals.forget('s')
    expect(refusals.add('s')).toBe(false)
  })

  it('are counted for a limited number of entries', () => {
    const { pass, refusals } = counter()
    for (let i = 0; i < 5; i++) refusals.add('oldest')
    for (let i = 0; i < 2000; i++) refusals.add(`entry ${i}`)
    pass(10_000)
    expect(refusals.add('oldest')).toBe(false)
  })
})
