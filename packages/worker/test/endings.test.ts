import { eventually } from '@redis-stream-client/test/support/eventually'
import { RecordProducer } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, seen, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

async function lbsLength(): Promise<number> {
  return await world.redis.xlen('orders-input')
}

describe('the end of a stream', () => {
  test('comes when the handler says so; a new assignment goes on behind it', async () => {
    const ids = await world.fill('s', 3)
    const handled = new Handled()
    const started = world.start('a', {
      process: (record, { done }) => {
        handled.note('s', record.id)
        if (record.id === ids[2]) done()
      },
    })
    expect(await seen(started, 'streamEnded')).toMatchObject({ how: 'finished', position: ids[2] })
    expect(await lbsLength()).toBe(0)
    expect(await world.redis.hget('orders-locks', 's')).toBeNull()
    expect(await world.redis.xlen('s')).toBe(3)
    const more = await world.fill('s', 2)
    expect((await handled.has('s', 5)).slice(3)).toEqual(more)
  })

  test('comes with the record isLast names, and deletes the data stream if told to', async () => {
    await world.fill('s', 4)
    const handled = new Handled()
    const started = world.start('a', {
      onDone: 'delete',
      isLast: ({ fields }) => fields['n'] === '3',
      process: ({ id }) => handled.note('s', id),
    })
    await seen(started, 'streamEnded')
    expect(await world.redis.exists('s')).toBe(0)
    expect(await world.committed('s')).toBeNull()
    const more = await world.fill('s', 1)
    expect((await handled.has('s', 5)).at(-1)).toBe(more[0])
  })

  test('comes with the record isLast names in the middle of a batch', async () => {
    const ids = await world.fill('s', 5)
    const batches: number[] = []
    const started = world.start('a', {
      isLast: ({ fields }) => fields['n'] === '2',
      processBatch: (records) => void batches.push(records.length),
    })
    expect(await seen(started, 'streamEnded')).toMatchObject({ how: 'finished', position: ids[2] })
    expect(batches).toEqual([3])
  })

  test('does not delete what came after the last record', async () => {
    const ids = await world.fill('s', 4)
    const started = world.start('a', {
      onDone: 'delete',
      process: (record, { done }) => {
        if (record.id === ids[1]) done()
      },
    })
    await seen(started, 'streamEnded')
    expect(await world.redis.xlen('s')).toBe(4)
    expect(await world.committed('s')).toBe(ids[1])
  })

  test('comes after idleMs without a record, and not before', async () => {
    const ids = await world.fill('s', 2)
    const started = world.start('a', { idleMs: 80, process: () => undefined })
    await seen(started, 'streamEnded')
    expect(await world.committed('s')).toBe(ids[1])
    expect(await lbsLength()).toBe(0)
  })

  test('begun by an owner that crashed is completed by the next one', async () => {
    const ids = await world.fill('s', 2)
    const [entry] = await world.redis.xrange('orders-input', '-', '+')
    const finished = JSON.stringify({ id: ids[1], finished: entry?.[0] })
    await world.redis.hset('orders-checkpoints', 's', finished)
    const handled = new Handled()
    const started = world.start('a', { process: ({ id }) => handled.note('s', id) })
    expect(await seen(started, 'streamEnded')).toMatchObject({ how: 'finished' })
    expect(await lbsLength()).toBe(0)
    const more = await world.fill('s', 1)
    expect(await handled.has('s', 1)).toEqual(more)
  })

  test('of an idle stream, begun by an owner that crashed, is called off by a record that came meanwhile', async () => {
    const ids = await world.fill('s', 3)
    const [entry] = await world.redis.xrange('orders-input', '-', '+')
    const finished = JSON.stringify({ id: ids[1], finished: entry?.[0], idle: true })
    await world.redis.hset('orders-checkpoints', 's', finished)
    const handled = new Handled()
    const started = world.start('a', { idleMs: 60, process: ({ id }) => handled.note('s', id) })
    expect(await handled.has('s', 1)).toEqual([ids[2]])
    await seen(started, 'streamEnded')
    expect(await world.committed('s')).toBe(ids[2])
  })

  test('trims what is committed, and only that', async () => {
    const ids = await world.fill('s', 20)
    let stop = (): void => undefined
    const stopped = new Promise<void>((resolve) => {
      stop = resolve
    })
    world.start('a', {
      trim: 'committed',
      commitEvery: 5,
      process: async ({ id }) => {
        if (id === ids[12]) await stopped
      },
    })
    await eventually(
      'what is committed is gone',
      async () => (await world.redis.xrange('s', '-', '+')).length === 8,
    )
    expect((await world.redis.xrange('s', '-', '+')).map(([id]) => id)).toEqual(ids.slice(12))
    stop()
    await eventually('the rest is gone', async () => (await world.redis.xlen('s')) === 0)
  })

  test('trims what transactions have committed', async () => {
    await world.fill('s', 20)
    world.start('a', {
      trim: 'committed',
      commitIntervalMs: 60_000,
      process: (record, { transaction }) => transaction(record, (multi) => multi.incr('count')),
    })
    await eventually('all of it is gone', async () => (await world.redis.xlen('s')) === 0)
    expect(await world.redis.get('count')).toBe('20')
  })

  test('of an idle stream is followed by a new assignment for a record that came right then', async () => {
    const { proxy } = await world.proxied()
    const redis = world.server.client({ port: proxy.port, lazyConnect: true })
    const handled = new Handled()
    const started = world.start('a', { idleMs: 60, process: ({ id }) => handled.note('s', id) }, redis)
    const added = new Promise<string | null>((resolve) => {
      started.worker.once('streamEnded', () => {
        proxy.freeze() // so that the record comes before the worker looks once more
        void world.redis.xadd('s', '*', 'n', 1).then((id) => {
          resolve(id)
          proxy.thaw()
        })
      })
    })
    await world.fill('s', 1)
    const id = await added
    expect((await handled.has('s', 2)).at(-1)).toBe(id)
    expect(redis.status).toBe('wait') // the worker uses connections of its own
  })

  test('of an idle stream loses no record, however it falls', async () => {
    const handled = new Handled()
    const producer = new RecordProducer(world.redis, 'orders')
    world.start('a', { idleMs: 15, process: ({ id }) => handled.note('s', id) })
    const ids: string[] = []
    for (let n = 0; n < 60; n++) {
      ids.push((await producer.add('s', { n })).id)
      await new Promise((resolve) => setTimeout(resolve, n % 30))
    }
    expect(await handled.has('s', 60)).toEqual(ids)
  })
})
