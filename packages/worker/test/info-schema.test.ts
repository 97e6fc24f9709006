/** Info of assignments, checked by the schemas of three libraries, typed by inference. */
import {
  type ClientOptions,
  LbsProducer,
  type OwnedStream,
  RedisStreamClient,
  type StandardSchema,
} from '@redis-stream-client/client'
import type { NotificationBroker, StreamAdded, StreamExpired } from '@redis-stream-client/notifs'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RecordProducer, StreamWorker, type WorkerOptions } from '@redis-stream-client/worker'
import { type } from 'arktype'
import { pino } from 'pino'
import * as v from 'valibot'
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import { seen, World } from './support/world.js'

interface Tenant {
  tenant: string
  limits: { perDay: number }[]
}

const SCHEMAS: readonly (readonly [library: string, schema: StandardSchema<Tenant>])[] = [
  ['zod', z.object({ tenant: z.string(), limits: z.array(z.object({ perDay: z.number() })) })],
  ['valibot', v.object({ tenant: v.string(), limits: v.array(v.object({ perDay: v.number() })) })],
  ['arktype', type({ tenant: 'string', limits: type({ perDay: 'number' }).array() })],
]
const GOOD: Tenant = { tenant: 'acme', limits: [{ perDay: 1 }] }
const BAD = { tenant: 'acme', limits: [{ perDay: 1 }, { perDay: 'many' }] }
const WHERE = /^Info does not fit infoSchema: limits\[1\]\.perDay: /

const dated = z.object({ at: z.string().transform((text) => new Date(text)) })
const AT = '2026-01-02T03:04:05.000Z'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

function client<Info>(options: ClientOptions<Info>): RedisStreamClient<Info> {
  const times = { heartbeatTtlMs: 10_000, lbsIdleTimeMs: 20_000, probeIntervalMs: 100 }
  const logger = pino({ level: 'silent' })
  return new RedisStreamClient(world.redis, world.service, { consumerId: 'a', logger, ...times, ...options })
}

/** Adds assignments as somebody does who does not check them. */
async function assign(infos: Readonly<Record<string, object | undefined>>): Promise<void> {
  for (const [DataStreamName, Info] of Object.entries(infos)) {
    await world.redis.xadd('orders-input', '*', 'lbs-input', JSON.stringify({ DataStreamName, Info }))
  }
}

/** Makes what was added pending under a consumer, as if that had read it and died. */
async function readAs(consumer: string): Promise<void> {
  await world.redis.xgroup('CREATE', 'orders-input', 'orders-group', '0', 'MKSTREAM')
  await world.redis.xreadgroup('GROUP', 'orders-group', consumer, 'STREAMS', 'orders-input', '>')
}

async function next<Info>(
  broker: NotificationBroker<Info>,
): Promise<StreamAdded<Info> | StreamExpired<Info>> {
  for await (const notification of broker) {
    if (notification.type === 'StreamAdded' || notification.type === 'StreamExpired') return notification
  }
  throw new Error('the client has closed')
}

/** The dead letters, when there are as many. */
async function letters(count: number): Promise<Record<string, string>[]> {
  const entries = await eventually(
    `${count} dead letters`,
    () => world.redis.xrange('orders-dead', '-', '+'),
    (found) => found.length === count,
    { timeoutMs: 15_000 },
  )
  return entries.map(([, fields]) => {
    const pairs = fields.flatMap((name, index) => (index % 2 === 0 ? [[name, fields[index + 1] ?? '']] : []))
    return Object.fromEntries(pairs) as Record<string, string>
  })
}

describe.each(SCHEMAS)('an infoSchema of %s', (_, infoSchema) => {
  test('lets a client have Infos that fit, and sends others to the dead letters with their paths', async () => {
    await assign({ bad: BAD, good: GOOD })
    await using a = client({ infoSchema })
    const told: unknown[] = []
    a.on('deadLetter', (letter) => told.push(letter))
    const added = await next(await a.init())
    expect([added.payload.dataStreamName, added.additionalInfo]).toEqual(['good', GOOD])
    const [letter] = await letters(1)
    expect(letter).toMatchObject({ reason: 'info-invalid', error: expect.stringMatching(WHERE) as string })
    expect(letter?.['fields']).toContain('many')
    expect(told).toMatchObject([{ dataStreamName: 'bad', reason: 'info-invalid' }])
    expect([...a.owned.keys()]).toEqual(['good'])
  })

  test('keeps producers from sending what does not fit', async () => {
    const assignments = new LbsProducer(world.redis, world.service, { infoSchema })
    await assignments.add('good', GOOD)
    for (const info of [BAD as never, undefined]) {
      await expect(assignments.add('bad', info)).rejects.toMatchObject({ code: 'LBS_MESSAGE_INVALID' })
    }
    await expect(assignments.add('bad', BAD as never)).rejects.toThrow('limits[1].perDay: ')
    const records = new RecordProducer(world.redis, world.service, { infoSchema })
    const refused = { code: 'RECORD_INVALID', message: expect.stringMatching(WHERE) as string }
    const bad = { info: BAD as never }
    await expect(records.announce('bad', BAD as never)).rejects.toMatchObject(refused)
    await expect(records.add('bad', { n: 1 }, bad)).rejects.toMatchObject(refused)
    await expect(records.addJson('bad', 1, bad)).rejects.toMatchObject(refused)
    await expect(records.addMany('bad', [{ fields: { n: 1 } }], bad)).rejects.toMatchObject(refused)
    await expect(records.add('bad', { n: 1 })).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    expect(await world.redis.xlen('orders-input')).toBe(1)
    expect(await world.redis.exists('bad')).toBe(0)
    await records.add('next', { n: 1 }, { info: GOOD })
    expect(await world.redis.xlen('orders-input')).toBe(2)
  })
})

describe('an Info with a schema', () => {
  test('is what the schema makes of it, for a stream, its notifications and handlers alike', async () => {
    await assign({ s: { at: AT } })
    await using a = client({ infoSchema: dated })
    const added = (await next(await a.init())) as StreamAdded<{ at: Date }>
    expect(added.additionalInfo).toEqual({ at: new Date(AT) })
    expect(added.stream.additionalInfo).toBe(added.additionalInfo)
    expect(a.owned.get('s')?.additionalInfo).toBe(added.additionalInfo)
  })

  test('may be left out where {} fits: defaults are filled in', async () => {
    const infoSchema = z.object({ tenant: z.string().default('none') })
    await new LbsProducer(world.redis, world.service, { infoSchema }).add('s')
    await using a = client({ infoSchema })
    expect((await next(await a.init())).additionalInfo).toEqual({ tenant: 'none' })
  })

  test('is checked in what an earlier session has left', async () => {
    await assign({ bad: {}, good: { at: AT } })
    await readAs('redis-consumer-a:earlier')
    await using a = client({ infoSchema: dated })
    expect((await next(await a.init())).additionalInfo).toEqual({ at: new Date(AT) })
    expect(await letters(1)).toMatchObject([{ reason: 'info-invalid' }])
  })

  test.each(['manual', 'auto'] as const)(
    'is checked in what a dead client has left (%s)',
    async (claimMode) => {
      await assign({ bad: {}, good: { at: AT } })
      await readAs('redis-consumer-gone:x')
      await using a = client({ infoSchema: dated, claimMode })
      const notification = await next(await a.init())
      expect(notification.additionalInfo).toEqual({ at: new Date(AT) })
      expect(await letters(1)).toMatchObject([{ reason: 'info-invalid' }])
      if (claimMode === 'auto') return
      const stream = await a.claim(notification.payload)
      expect(stream.additionalInfo).toEqual({ at: new Date(AT) })
    },
  )

  test('that is large is the same object for as long as the stream is owned', async () => {
    const infoSchema = z.object({ at: z.string().transform((text) => new Date(text)), padding: z.string() })
    await assign({ s: { at: AT, padding: 'x'.repeat(64 * 1024) } })
    await using a = client({ infoSchema })
    const { additionalInfo } = await next(await a.init())
    expect(additionalInfo.at).toEqual(new Date(AT))
    expect(a.owned.get('s')?.additionalInfo).toBe(additionalInfo)
  })

  test('is waited for if the schema takes its time: streams come in the order of their entries', async () => {
    const infoSchema = z.object({
      n: z.number().refine(async (n) => {
        for (let turns = 0; turns < 40 - 10 * n; turns++)
          await new Promise((resolve) => setImmediate(resolve))
        return n !== 2
      }, 'must not be two'),
    })
    await assign({ one: { n: 1 }, two: { n: 2 }, three: { n: 3 } })
    await using a = client({ infoSchema })
    const broker = await a.init()
    const names = [(await next(broker)).payload.dataStreamName, (await next(broker)).payload.dataStreamName]
    expect(names).toEqual(['one', 'three'])
    expect(await letters(1)).toMatchObject([{ error: 'Info does not fit infoSchema: n: must not be two' }])
  })

  test('whose schema throws is one that does not fit', async () => {
    const infoSchema = z.object({}).transform(() => {
      throw new Error('no such tenant')
    })
    await assign({ s: {} })
    await using a = client({ infoSchema })
    await a.init()
    expect(await letters(1)).toMatchObject([
      { reason: 'info-invalid', error: 'Info was not checked: infoSchema has failed: no such tenant' },
    ])
  })

  test('is what handlers of a worker get; what does not fit costs the others nothing', async () => {
    await assign({ bad: {}, s: { at: AT } })
    const infos: unknown[] = []
    const [id] = await world.fill('s', 1, { assign: false })
    world.start('a', {
      client: { infoSchema: dated },
      process: (_record, { stream }) => void infos.push(stream.additionalInfo),
    } as WorkerOptions)
    await world.committedIs('s', id)
    expect(infos).toEqual([{ at: new Date(AT) }])
    expect(await letters(1)).toMatchObject([{ reason: 'info-invalid' }])
  })

  test('is as it was sent in the entry that assigns an idle stream anew', async () => {
    await assign({ s: { at: AT } })
    const infos: unknown[] = []
    const { proxy, redis } = await world.proxied()
    const options = {
      idleMs: 50,
      client: { infoSchema: dated },
      process: (_record, { stream }) => void infos.push(stream.additionalInfo),
    } as WorkerOptions
    const started = world.start('a', options, redis)
    let id: string | null = null
    started.worker.once('streamEnded', () => {
      // The look after the end waits in the proxy until the record is there.
      proxy.freeze()
      void world.redis.xadd('s', '*', 'n', 1).then((added) => {
        id = added
        proxy.thaw()
      })
    })
    await seen(started, 'streamEnded')
    await eventually(
      'the record is handled',
      () => infos.length,
      (length) => length > 0,
      { timeoutMs: 15_000 },
    )
    expect(infos).toEqual([{ at: new Date(AT) }])
    await world.committedIs('s', String(id))
  })
})

describe('a producer with an infoSchema', () => {
  test('checks what the clients will read', async () => {
    const infoSchema = z.object({ id: z.string() })
    const producer = new LbsProducer(world.redis, world.service, { infoSchema })
    await producer.add('s', { id: 1453972365124935681n } as never)
    await using a = client({ infoSchema })
    expect((await next(await a.init())).additionalInfo).toEqual({ id: '1453972365124935681' })
  })

  test('sends in the order of the calls, whichever check takes longer', async () => {
    const infoSchema = z.object({
      n: z.number().refine(async (n) => {
        for (let turns = 0; turns < 10 - n; turns++) await new Promise((resolve) => setImmediate(resolve))
        return true
      }),
    })
    const producer = new LbsProducer(world.redis, world.service, { infoSchema })
    await Promise.all([1, 2, 3, 4].map((n) => producer.add(`s${n}`, { n })))
    const entries = await world.redis.xrange('orders-input', '-', '+')
    const names = entries.map(
      ([, [, text = '{}']]) => (JSON.parse(text) as { DataStreamName: string }).DataStreamName,
    )
    expect(names).toEqual(['s1', 's2', 's3', 's4'])
  })

  test('waits for a schema that takes its time before it announces a stream', async () => {
    const infoSchema = z.object({ n: z.number().refine(async (n) => await Promise.resolve(n > 0)) })
    const producer = new RecordProducer(world.redis, world.service, { infoSchema })
    await expect(producer.announce('s', { n: 0 })).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    expect(await world.redis.exists('orders-input')).toBe(0)
    await producer.announce('s', { n: 1 })
  })

  test('that never assigns a stream with its records needs no info for them', async () => {
    const producer = new RecordProducer(world.redis, world.service, { infoSchema: dated, announce: 'never' })
    await producer.add('s', { n: 1 })
    expect(await world.redis.xlen('s')).toBe(1)
  })
})

describe('the option infoSchema', () => {
  test('refuses what is no schema', () => {
    const wrong = expect.objectContaining({
      code: 'OPTION_INVALID',
      message: expect.stringContaining('option infoSchema must be a Standard Schema') as string,
    }) as Error
    const infoSchema = { parse: () => undefined } as never
    expect(() => client({ infoSchema })).toThrow(wrong)
    expect(() => new LbsProducer(world.redis, 's', { infoSchema })).toThrow(wrong)
    expect(() => new RecordProducer(world.redis, 's', { infoSchema })).toThrow(wrong)
    expect(() => world.worker('a', { process: () => undefined, client: { infoSchema } })).toThrow(wrong)
  })

  test('gives Info its type', () => {
    const a = new RedisStreamClient(world.redis, 's', { consumerId: 'a', infoSchema: dated })
    type Broker = Awaited<ReturnType<typeof a.init>>
    expectTypeOf<Broker>().toEqualTypeOf<NotificationBroker<{ at: Date }>>()
    type Claimed = Awaited<ReturnType<typeof a.claim>>
    expectTypeOf<Claimed>().toEqualTypeOf<OwnedStream<{ at: Date }>>()
    expectTypeOf(a.owned).toEqualTypeOf<ReadonlyMap<string, OwnedStream<{ at: Date }>>>()
    const plain = new RedisStreamClient(world.redis, 's', { consumerId: 'a' })
    expectTypeOf(plain.owned).toEqualTypeOf<ReadonlyMap<string, OwnedStream>>()
    expectTypeOf(plain).toEqualTypeOf<RedisStreamClient>()
    new StreamWorker(world.redis, 's', {
      client: { consumerId: 'a', infoSchema: dated },
      schema: z.object({ n: z.number() }),
      process: (record, { stream }) => {
        expectTypeOf(record.value).toEqualTypeOf<{ n: number }>()
        expectTypeOf(stream.additionalInfo).toEqualTypeOf<{ at: Date }>()
      },
    }).use((_record, { stream }, proceed) => {
      expectTypeOf(stream.additionalInfo).toEqualTypeOf<{ at: Date }>()
      return proceed()
    })
    const assignments = new LbsProducer(world.redis, 's', { infoSchema: dated })
    expectTypeOf<Parameters<typeof assignments.add>[1]>().toEqualTypeOf<{ at: string } | undefined>()
    const records = new RecordProducer(world.redis, 's', { infoSchema: dated })
    expectTypeOf<Parameters<typeof records.announce>[1]>().toEqualTypeOf<{ at: string } | undefined>()
  })
})
