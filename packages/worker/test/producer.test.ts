import { LbsProducer } from '@redis-stream-client/client'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RecordProducer } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

describe('RecordProducer', () => {
  test('adds records in the order of the calls and assigns the stream once', async () => {
    const producer = new RecordProducer(world.redis, 'orders')
    const added = await Promise.all(Array.from({ length: 250 }, (_, n) => producer.add('s', { n })))
    const entries = await world.redis.xrange('s', '-', '+')
    expect(entries.map(([, fields]) => fields[1])).toEqual(Array.from({ length: 250 }, (_, n) => String(n)))
    expect(added.map(({ id }) => id)).toEqual(entries.map(([id]) => id))
    expect(await world.redis.xlen('orders-input')).toBe(1)
    expect(producer.inFlight).toBe(0)
  })

  test('assigns a stream again when it was finished, and with the info it was given', async () => {
    const producer = new RecordProducer(world.redis, 'orders')
    const infos = new Map<string, unknown>()
    world.start('a', {
      process: (record, { done, stream }) => {
        infos.set(record.id, stream.additionalInfo)
        done()
      },
    })
    const first = await producer.addJson('s', { a: 1 }, { info: { region: 'eu' } })
    await eventually('the first is handled', () => infos.has(first.id))
    await eventually('it is finished', async () => (await world.redis.hlen('orders-locks')) === 0)
    const second = await producer.addJson('s', { a: 2 }, { info: { region: 'us' } })
    await eventually('the second is handled', () => infos.has(second.id))
    // By record: one may come twice when a stalled machine costs the session.
    expect(infos).toEqual(
      new Map([
        [first.id, { region: 'eu' }],
        [second.id, { region: 'us' }],
      ]),
    )
  })

  test('leaves the LBS alone if told to, until asked', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { announce: 'never' })
    await producer.add('s', { a: 'b' })
    expect(await world.redis.exists('orders-input')).toBe(0)
    expect(await producer.announce('s')).toMatch(/^\d+-\d+$/)
    expect(await producer.announce('s')).toBeNull()
  })

  test('adds a record once for each idempotency key, within the window', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { idempotencyWindowMs: 150 })
    const first = await producer.add('s', { n: 1 }, { idempotencyKey: 'k' })
    const again = await producer.add('s', { n: 2 }, { idempotencyKey: 'k' })
    const other = await producer.add('s', { n: 3 }, { idempotencyKey: 'l' })
    expect([first.isNew, again, other.isNew]).toEqual([true, { id: first.id, isNew: false }, true])
    await producer.add('t', { n: 1 }, { idempotencyKey: 'k' })
    await eventually('the window is over', async () => {
      return (await producer.add('s', { n: 4 }, { idempotencyKey: 'k' })).isNew
    })
    expect(await world.redis.xlen('s')).toBe(3)
    expect(await world.redis.hlen('orders-idempotency:s')).toBeLessThanOrEqual(2)
    expect(await world.redis.pttl('orders-idempotency:s')).toBeGreaterThan(0)
  })

  test('forgets idempotency keys whose window is over, some with each record that has one', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { idempotencyWindowMs: 60_000 })
    const ids = 'orders-idempotency:s'
    const times = 'orders-idempotency-times:s'
    const add = (n: number) => producer.add('s', { n }, { idempotencyKey: `new-${n}` })
    await add(0)
    const longAgo = Date.now() - 3_600_000
    for (let n = 0; n < 10_000; n += 1000) {
      const keys = Array.from({ length: 1000 }, (_, i) => `old-${n + i}`)
      await world.redis.zadd(times, ...keys.flatMap((key) => [longAgo, key]))
      await world.redis.hset(ids, ...keys.flatMap((key) => [key, '1-0']))
    }
    await add(1)
    const forgotten = 10_002 - (await world.redis.zcard(times))
    expect(forgotten).toBe(200) // so that one call stays short
    expect(await world.redis.hlen(ids)).toBe(10_002 - forgotten)
    for (let n = 2; n <= 60; n++) await add(n)
    expect(await world.redis.zcard(times)).toBe(61)
    expect(await world.redis.hlen(ids)).toBe(61)
    expect(await add(0)).toMatchObject({ isNew: false })
  })

  test('cuts what is committed, and nothing else', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { maxLen: 50 })
    const records = Array.from({ length: 300 }, (_, n) => ({ fields: { n } }))
    const added = await producer.addMany('s', records)
    expect(await world.redis.xlen('s')).toBe(300)
    await world.redis.hset('orders-checkpoints', 's', JSON.stringify({ id: added[99]?.id, failed: {} }))
    await producer.add('s', { n: 300 })
    expect((await world.redis.xrange('s', '-', '+'))[0]?.[0]).toBe(added[100]?.id)
    await world.redis.hset('orders-checkpoints', 's', added[299]?.id as string)
    await producer.add('s', { n: 301 })
    expect(await world.redis.xlen('s')).toBe(50)
  })

  test('cuts everything beyond maxLen if told to', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { maxLen: 10, mayCutUncommitted: true })
    await producer.addMany(
      's',
      Array.from({ length: 500 }, (_, n) => ({ fields: { n } })),
    )
    expect(await world.redis.xlen('s')).toBeLessThan(250)
  })

  test('reads few large records in one call to cut, and still comes down to the length it shall have', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { maxLen: 10 })
    const large = Array.from({ length: 60 }, () => ({ fields: { data: 'x'.repeat(100_000) } }))
    await producer.addMany('s', large)
    await world.redis.hset('orders-checkpoints', 's', `${Date.now() + 60_000}-0`) // all is committed
    await producer.add('s', { n: 0 })
    const length = await world.redis.xlen('s')
    expect(length).toBeGreaterThan(40)
    expect(length).toBeLessThan(61)
    await producer.addMany('s', large)
    expect(await world.redis.xlen('s')).toBeLessThan(length)
    for (let n = 1; n <= 50; n++) await producer.add('s', { n })
    expect(await world.redis.xlen('s')).toBeLessThanOrEqual(12)
  })

  test('refuses what is no record, before anything is sent', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { maxRecordBytes: 10 })
    const bad: [unknown, string][] = [
      [{}, 'at least one field'],
      [null, 'an object of fields'],
      [['a'], 'an object of fields'],
      [{ a: {} }, 'field "a" must be a text, a finite number, a Buffer or a Uint8Array, got object'],
      [{ a: Number.NaN }, 'must be a text, a finite number'],
      [{ a: '\ud800' }, 'not well-formed'],
      [{ a: 'ööööö' }, '11 bytes, at most 10'],
    ]
    for (const [fields, problem] of bad) {
      await expect(producer.add('s', fields as never)).rejects.toThrow(problem)
      await expect(producer.add('s', fields as never)).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    }
    await expect(producer.add('', { a: 'b' })).rejects.toThrow('needs a name')
    await expect(producer.add('x'.repeat(2000), { a: 'b' })).rejects.toThrow('at most 1024 bytes')
    await expect(producer.add('s', { a: 'b' }, { idempotencyKey: '' })).rejects.toThrow('must not be empty')
    await expect(producer.add('s', { a: 'b' }, { idempotencyKey: 7 as never })).rejects.toThrow('is a text')
    await expect(producer.addJson('s', undefined)).rejects.toThrow('no JSON form')
    await expect(producer.addMany('s', [{ fields: { a: 'b' } }, { fields: {} }])).rejects.toMatchObject({
      code: 'RECORD_INVALID',
    })
    expect(await world.redis.exists('s', 'orders-input')).toBe(0)
  })

  test('says what is new, whatever form of numbers its connection answers with', async () => {
    const redis = world.server.client({ stringNumbers: true })
    const producer = new RecordProducer(redis, 'orders')
    const first = await producer.add('s', { n: 1 }, { idempotencyKey: 'k' })
    const second = await producer.add('s', { n: 1 }, { idempotencyKey: 'k' })
    expect([first.isNew, second.isNew]).toEqual([true, false])
  })

  test('makes callers wait for room, in order, until they give up', async () => {
    const { proxy, redis } = await world.proxied()
    const producer = new RecordProducer(redis, 'orders', { maxInFlight: 3 })
    await redis.ping()
    proxy.freeze()
    const first = [1, 2, 3].map((n) => producer.add('s', { n }))
    const controller = new AbortController()
    const given = producer.add('s', { n: 9 }, { signal: controller.signal })
    const refused = expect(given).rejects.toThrow('never mind')
    const late = producer.add('s', { n: 4 })
    await eventually('three are on their way', () => producer.inFlight === 3)
    controller.abort(new Error('never mind'))
    await refused
    proxy.thaw()
    await Promise.all([...first, late])
    const entries = await world.redis.xrange('s', '-', '+')
    expect(entries.map(([, fields]) => fields[1])).toEqual(['1', '2', '3', '4'])
    const aborted = AbortSignal.abort(new Error('before'))
    await expect(producer.addMany('s', [{ fields: { a: 'b' } }], { signal: aborted })).rejects.toThrow(
      'before',
    )
  })

  test('sends nothing of a sequence behind a part that failed', async () => {
    const redis = world.server.client()
    const send = redis.evalsha.bind(redis) as (...words: unknown[]) => Promise<unknown>
    let calls = 0
    redis.evalsha = ((...words: unknown[]) =>
      ++calls === 2 ? Promise.reject(new Error('refused')) : send(...words)) as never
    const producer = new RecordProducer(redis, 'orders')
    const records = Array.from({ length: 450 }, (_, n) => ({ fields: { n } }))
    const adding = producer.addMany('s', records)
    const [single] = await Promise.all([producer.add('s', { n: 'single' }), expect(adding).rejects.toThrow()])
    await expect(adding).rejects.toMatchObject({ code: 'REDIS_ERROR', added: 99, unsure: 100 })
    await expect(adding).rejects.toThrow(
      'addMany to s: 99 of 450 records were added, 100 after them may have been, the others were not sent: ',
    )
    const entries = await world.redis.xrange('s', '-', '+')
    const values = entries.filter(([id]) => id !== single.id).map(([, fields]) => fields[1])
    expect(values).toEqual(Array.from({ length: 99 }, (_, n) => String(n)))
    expect(producer.inFlight).toBe(0)
    expect(await producer.addMany('s', records)).toHaveLength(450)
  })

  test('sends at most about a mebibyte in one call', async () => {
    const redis = world.server.client()
    const send = redis.evalsha.bind(redis) as (...words: unknown[]) => Promise<unknown>
    const sizes: number[] = []
    redis.evalsha = ((...words: unknown[]) => {
      sizes.push(words.join('').length)
      return send(...words)
    }) as never
    const producer = new RecordProducer(redis, 'orders', { maxRecordBytes: 3_000_000 })
    const lengths = [400_000, 400_000, 400_000, 2_000_000, 10, 10]
    await producer.addMany(
      's',
      lengths.map((length) => ({ fields: { data: 'x'.repeat(length) } })),
    )
    const inRedis = (await world.redis.xrange('s', '-', '+')).map(([, [, data = '']]) => data.length)
    expect(inRedis).toEqual(lengths)
    expect(sizes.map((size) => Math.floor(size / 100_000))).toEqual([8, 4, 20, 0])
  })

  test('lets no more bytes be on their way than it may, but always one record', async () => {
    const { proxy, redis } = await world.proxied()
    const producer = new RecordProducer(redis, 'orders', { maxInFlightBytes: 100 })
    await redis.ping()
    proxy.freeze()
    const large = producer.add('s', { n: 'x'.repeat(200) })
    const small = Array.from({ length: 5 }, (_, n) => producer.add('s', { n: `${n}${'y'.repeat(30)}` }))
    await eventually('one is on its way', () => producer.inFlight === 1)
    proxy.thaw()
    await large
    proxy.freeze()
    await eventually('three are on their way', () => producer.inFlight === 3)
    proxy.thaw()
    await Promise.all(small)
    const entries = await world.redis.xrange('s', '-', '+')
    expect(entries.map(([, [, value = '']]) => value[0])).toEqual(['x', '0', '1', '2', '3', '4'])
  })

  test('takes nothing more while what has filled it gets no answer', async () => {
    const { proxy, redis } = await world.proxied()
    const producer = new RecordProducer(redis, 'orders', { maxInFlight: 3, commandTimeoutMs: 100 })
    await redis.ping()
    proxy.freeze()
    const results = await Promise.allSettled([1, 2, 3, 4, 5].map((n) => producer.add('s', { n })))
    const messages = results.map((result) => (result.status === 'rejected' ? String(result.reason) : ''))
    expect(messages.slice(0, 3).every((text) => text.includes('no answer within 100 ms'))).toBe(true)
    expect(messages.slice(3).every((text) => text.includes('nothing of this was sent'))).toBe(true)
    expect(producer.inFlight).toBe(3)
    await expect(producer.add('s', { n: 6 })).rejects.toMatchObject({ code: 'REDIS_ERROR' })
    await expect(producer.addMany('s', [{ fields: { n: 7 } }])).rejects.toMatchObject({ added: 0, unsure: 0 })
    expect(producer.inFlight).toBe(3)
    proxy.thaw()
    await eventually('all are answered', () => producer.inFlight === 0)
    await producer.add('s', { n: 8 })
    const entries = await world.redis.xrange('s', '-', '+')
    expect(entries.map(([, fields]) => fields[1])).toEqual(['1', '2', '3', '8'])
  })

  test('says when Redis refuses or does not answer', async () => {
    await world.redis.set('text', 'no stream')
    const producer = new RecordProducer(world.redis, 'orders', { commandTimeoutMs: 100 })
    await expect(producer.add('text', { a: 'b' })).rejects.toMatchObject({ code: 'REDIS_ERROR' })
    await expect(producer.addMany('text', [{ fields: { a: 'b' } }])).rejects.toMatchObject({
      code: 'REDIS_ERROR',
    })
    world.server.pause()
    await expect(producer.announce('s')).rejects.toThrow('no answer within 100 ms')
    world.server.resume()
  })

  test('does not assign what is owned or waits in the LBS', async () => {
    const producer = new RecordProducer(world.redis, 'orders')
    await new LbsProducer(world.redis, 'orders').add('s')
    const handled = new Handled()
    world.start('a', { process: ({ id }) => handled.note('s', id) })
    await eventually('it is owned', async () => (await world.redis.hlen('orders-locks')) === 1)
    await producer.add('s', { a: 'b' })
    await handled.has('s', 1)
    expect(await world.redis.xlen('orders-input')).toBe(1)
  })

  test('assigns a stream again, once, whose assignment is just being closed', async () => {
    const producer = new RecordProducer(world.redis, 'orders')
    const infos: unknown[] = []
    const { worker } = world.start('a', {
      process: ({ fields }, { stream }) => void infos.push([fields['n'], stream.additionalInfo]),
    })
    await producer.add('s', { n: 1 }, { info: { region: 'eu' } })
    await eventually('the first is handled', () => infos.length === 1)
    const [[id]] = (await world.redis.xrange('orders-input', '-', '+')) as [[id: string, fields: string[]]]
    const committed = (await worker.status()).streams[0]?.position
    await worker.close()
    // As the owner leaves it that marks the stream as finished and has not closed the assignment yet.
    await world.redis.hset('orders-checkpoints', 's', JSON.stringify({ id: committed, finished: id }))
    await producer.add('s', { n: 2 }, { info: { region: 'us' } })
    await producer.add('s', { n: 3 }, { info: { region: 'us' } })
    expect(await world.redis.xlen('orders-input')).toBe(2)
    world.start('b', {
      process: ({ fields }, { stream }) => void infos.push([fields['n'], stream.additionalInfo]),
    })
    await eventually('the others are handled', () => infos.length === 3)
    expect(infos.slice(1)).toEqual([
      ['2', { region: 'us' }],
      ['3', { region: 'us' }],
    ])
  })

  test('cuts nothing that its worker has not committed', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { maxLen: 20 })
    const handled = new Handled()
    world.start('a', {
      commitEvery: 7,
      process: async ({ id }) => {
        if (handled.of('s').length % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 5))
        handled.note('s', id)
      },
    })
    const ids: string[] = []
    for (let n = 0; n < 40; n++) {
      const records = Array.from({ length: 15 }, (_, i) => ({ fields: { n: 15 * n + i } }))
      ids.push(...(await producer.addMany('s', records)).map(({ id }) => id))
    }
    expect(await handled.has('s', 600)).toEqual(ids)
    await world.committedIs('s', ids[599])
    await producer.add('s', { n: 600 })
    expect(await world.redis.xlen('s')).toBeLessThan(200) // a call cuts 500 at most
  })

  test.each([
    [{ maxLen: 0 }, 'maxLen'],
    [{ announce: 'sometimes' }, 'announce'],
    [{ mayCutUncommitted: 1 }, 'mayCutUncommitted'],
    [{ maxLength: 3 }, 'maxLength'],
  ])('refuses the options %j', (options, name) => {
    expect(() => new RecordProducer(world.redis, 'orders', options as never)).toThrow(name)
  })
})
