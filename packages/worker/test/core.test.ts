import { eventually } from '@redis-stream-client/test/support/eventually'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, seen, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

describe('reading', () => {
  test('hands the records of every stream to the handler, in order', async () => {
    const handled = new Handled()
    const before = new Map<string, string[]>()
    for (let n = 0; n < 20; n++) before.set(`s${n}`, await world.fill(`s${n}`, 250))
    const started = world.start('a', {
      concurrency: 5,
      process: (record, { stream }) => handled.note(stream.dataStreamName, record.id),
    })
    for (const [stream, ids] of before) {
      expect(await handled.has(stream, 250)).toEqual(ids)
      await world.committedIs(stream, ids.at(-1))
    }
    expect(started.events.filter(({ event }) => event !== 'streamStarted')).toEqual([])
  })

  test('notices a record of a stream that was idle, without asking for it again and again', async () => {
    const handled = new Handled()
    world.start('a', { process: (record, { stream }) => handled.note(stream.dataStreamName, record.id) })
    for (let n = 0; n < 50; n++) await world.assign(`s${n}`)
    await world.fill('s0', 1, { assign: false })
    await handled.has('s0', 1)
    const reads = async (): Promise<number> => {
      const info = await world.redis.info('commandstats')
      return Number(/cmdstat_xread:calls=(\d+)/.exec(info)?.[1] ?? 0)
    }
    const before = await reads()
    for (let n = 0; n < 50; n++) {
      const [id] = await world.fill(`s${n}`, 1, { assign: false })
      expect((await handled.has(`s${n}`, n === 0 ? 2 : 1)).at(-1)).toBe(id)
    }
    expect((await reads()) - before).toBeLessThan(200)
  })

  test('calls the handler with one record of a stream at a time, of several streams at once', async () => {
    const running = new Map<string, number>()
    let most = 0
    let total = 0
    let open = 0
    for (let n = 0; n < 8; n++) await world.fill(`s${n}`, 5)
    world.start('a', {
      concurrency: 3,
      process: async (_, { stream: { dataStreamName } }) => {
        running.set(dataStreamName, (running.get(dataStreamName) ?? 0) + 1)
        most = Math.max(most, ++open)
        expect(running.get(dataStreamName)).toBe(1)
        await eventually('as many run as may', () => most === 3)
        running.set(dataStreamName, 0)
        open--
        total++
      },
    })
    await eventually('all are handled', () => total === 40)
    expect(most).toBe(3)
  })

  test('lets timers and sockets have their turn while handlers keep the processor busy', async () => {
    for (let n = 0; n < 20; n++) await world.fill(`s${n}`, 50)
    let total = 0
    let inOneTurn = 0
    let most = 0
    const tick = (): void => {
      most = Math.max(most, inOneTurn)
      inOneTurn = 0
      if (total < 1000) setImmediate(tick)
    }
    tick()
    world.start('a', {
      process: async () => {
        for (const until = performance.now() + 1; performance.now() < until; );
        inOneTurn++
        total++
      },
    })
    await eventually('all are handled', () => total === 1000, Boolean, { timeoutMs: 30_000 })
    // A slow machine makes it fewer, never more.
    expect(most).toBeLessThan(100)
  })

  test('gives the handler the facts of record and stream', async () => {
    await world.redis.xadd('s', '1000-1', 'data', '{"a":[1]}', 'other', 'x', 'other', 'y')
    await world.assign('s', { region: 'eu' })
    const facts: unknown[] = []
    world.start('a', {
      process: (record, { attempt, log, signal, stream }) => {
        log.info({}, 'a line')
        facts.push([
          record.id,
          { ...record.fields },
          record.raw,
          record.time,
          record.json(),
          record.dataStreamName,
          attempt,
          signal.aborted,
          stream.additionalInfo,
          stream.fencingToken > 0,
        ])
      },
    })
    await eventually('the record is handled', () => facts.length === 1)
    expect(facts[0]).toEqual([
      '1000-1',
      { data: '{"a":[1]}', other: 'y' },
      ['data', '{"a":[1]}', 'other', 'x', 'other', 'y'],
      new Date(1000),
      { a: [1] },
      's',
      1,
      false,
      { region: 'eu' },
      true,
    ])
  })

  test('hands over batches that never exceed what may be uncommitted', async () => {
    const sizes: number[] = []
    const handled = new Handled()
    const ids = await world.fill('s', 45)
    world.start('a', {
      commitEvery: 20,
      batchSize: 50,
      processBatch: (records) => {
        sizes.push(records.length)
        for (const { id } of records) handled.note('s', id)
      },
    })
    expect(await handled.has('s', 45)).toEqual(ids)
    expect(Math.max(...sizes)).toBe(20)
    await world.committedIs('s', ids.at(-1))
  })

  test('halts a stream that Redis refuses to read, and goes on with the others', async () => {
    const handled = new Handled()
    const started = world.start('a', {
      readConnections: 1,
      process: (record, { stream }) => handled.note(stream.dataStreamName, record.id),
    })
    await world.redis.set('broken', 'no stream')
    await world.assign('broken')
    await world.fill('fine', 3)
    await handled.has('fine', 3)
    const halted = await seen(started, 'streamHalted')
    expect(halted).toMatchObject({ dataStreamName: 'broken', reason: 'unreadable' })
    await world.fill('fine', 3, { assign: false })
    await handled.has('fine', 6)
    await world.redis.del('broken')
    await world.fill('broken', 2, { assign: false })
    await started.worker.resume('broken')
    await handled.has('broken', 2)
  })

  test('leaves it to the next owner to find out whether a stream can be read', async () => {
    const handled = new Handled()
    const process = ({ dataStreamName, id }: { dataStreamName: string; id: string }): void =>
      handled.note(dataStreamName, id)
    const before = world.start('a', { commitIntervalMs: 60_000, process })
    const ids = await world.fill('s', 2)
    await handled.has('s', 2)
    await world.redis.rename('s', 'aside')
    await world.redis.set('s', 'no stream')
    await world.fill('other', 1) // the reader looks at the keys anew
    await seen(before, 'streamHalted')
    await before.worker.close()
    expect(await world.committed('s')).toBe(ids[1])
    await world.redis.rename('aside', 's')
    await world.fill('s', 1, { first: 2, assign: false })
    world.start('b', { process })
    expect(await handled.has('s', 3)).toHaveLength(3)
  })

  test('goes on where a bare id says, and halts at the checkpoint of somebody else', async () => {
    const handled = new Handled()
    const ids = await world.fill('moved', 4, { assign: false })
    await world.redis.hset('orders-checkpoints', { moved: ids[1] as string, foreign: 'page 7' })
    await world.assign('moved')
    await world.fill('foreign', 1)
    const started = world.start('a', {
      process: (record, { stream }) => handled.note(stream.dataStreamName, record.id),
    })
    expect(await handled.has('moved', 2)).toEqual(ids.slice(2))
    expect(await seen(started, 'streamHalted')).toMatchObject({
      dataStreamName: 'foreign',
      reason: 'checkpoint-foreign',
    })
  })

  test('does not write over the checkpoint of somebody else, and goes on once it is set right', async () => {
    const handled = new Handled()
    const ids = await world.fill('s', 4, { assign: false })
    await world.redis.hset('orders-checkpoints', { s: 'page 7' })
    await world.assign('s')
    const started = world.start('a', { process: ({ id }) => handled.note('s', id) })
    await seen(started, 'streamHalted')
    for (const skip of [false, true]) {
      await expect(started.worker.resume('s', { skip })).rejects.toMatchObject({
        code: 'CHECKPOINT_FOREIGN',
        message: expect.stringContaining('page 7. Set it to the id of the last record that is done with'),
      })
    }
    expect(await world.redis.hget('orders-checkpoints', 's')).toBe('page 7')
    expect((await started.worker.status()).streams).toMatchObject([{ state: 'halted' }])
    await world.redis.hset('orders-checkpoints', { s: ids[1] as string })
    await started.worker.resume('s')
    expect(await handled.has('s', 2)).toEqual(ids.slice(2))
    await world.committedIs('s', ids[3])
  })

  test('tries a stream again that it may not read, until it may, while others go on', async () => {
    await world.redis.acl('SETUSER', 'w', 'on', '>secret', '+@all', '&*', '~orders*', '~free*')
    const redis = world.server.client({ username: 'w', password: 'secret' })
    const handled = new Handled()
    const started = world.start(
      'a',
      {
        idleMs: 200,
        readConnections: 1,
        process: ({ dataStreamName, id }) => handled.note(dataStreamName, id),
      },
      redis,
    )
    const ids = await world.fill('locked', 2)
    expect(await seen(started, 'error')).toMatchObject({
      error: { code: 'STREAM_UNREADABLE', message: expect.stringContaining('reading locked is refused') },
    })
    await world.fill('free', 2)
    await handled.has('free', 2)
    await eventually(
      'the idle one ends, which the other is not',
      () => started.events.filter(({ event }) => event === 'streamEnded'),
      (ends) => ends.length > 0,
    )
    await world.redis.acl('SETUSER', 'w', '~locked')
    expect(await handled.has('locked', 2)).toEqual(ids)
    const ended = started.events.filter(({ event }) => event === 'streamEnded')
    expect(ended[0]).toMatchObject({ dataStreamName: 'free' })
    expect(started.events.filter(({ event }) => event === 'streamHalted' || event === 'error')).toHaveLength(
      1,
    )
  })

  test('reads on after its connections were cut', async () => {
    const { proxy, redis } = await world.proxied()
    const handled = new Handled()
    world.start('a', { process: (record) => handled.note('s', record.id) }, redis)
    await world.fill('s', 3)
    await handled.has('s', 3)
    proxy.cut()
    const ids = await world.fill('s', 3, { assign: false })
    await eventually('the last record', () => handled.of('s').at(-1) === ids.at(-1), Boolean, {
      timeoutMs: 15_000,
    })
    expect([...new Set(handled.of('s'))]).toHaveLength(6)
  })

  test('reads a stream that has nothing in memory, though slow ones have filled it', async () => {
    let release = (): void => undefined
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    const handled = new Handled()
    const { worker } = world.start('a', {
      maxBufferedRecords: 20,
      readCount: 10,
      process: async ({ dataStreamName, id }) => {
        if (dataStreamName.startsWith('slow')) await released
        handled.note(dataStreamName, id)
      },
    })
    for (let n = 0; n < 4; n++) await world.fill(`slow${n}`, 50)
    await eventually('memory is full', async () => (await worker.status()).buffered >= 20)
    const ids = await world.fill('quick', 5)
    expect(await handled.has('quick', 5)).toEqual(ids)
    expect((await worker.status()).buffered).toBeLessThanOrEqual(45)
    release()
    for (let n = 0; n < 4; n++) await handled.has(`slow${n}`, 50)
  })

  test('takes no more into memory than it may', async () => {
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    for (let n = 0; n < 4; n++) await world.fill(`s${n}`, 300)
    let count = 0
    const started = world.start('a', {
      maxBufferedRecords: 100,
      process: async () => {
        await held
        count++
      },
    })
    await eventually('the buffers are full', async () => (await started.worker.status()).buffered >= 100)
    expect((await started.worker.status()).buffered).toBeLessThanOrEqual(160)
    release()
    await eventually('all is handled', () => count === 1200, Boolean, { timeoutMs: 15_000 })
  })
})

describe('committing', () => {
  test('commits at the latest after commitEvery records', async () => {
    const ids = await world.fill('s', 10)
    let stop = (): void => undefined
    const stopped = new Promise<void>((resolve) => {
      stop = resolve
    })
    const seenBehind: number[] = []
    world.start('a', {
      commitEvery: 3,
      commitIntervalMs: 60_000,
      process: async (record) => {
        const committed = await world.committed('s')
        seenBehind.push(ids.indexOf(record.id) - ids.indexOf(committed ?? '') - 1)
        if (record.id === ids[8]) await stopped
      },
    })
    await eventually('nine records', () => seenBehind.length === 9)
    expect(seenBehind).toEqual([0, 1, 2, 0, 1, 2, 0, 1, 2])
    stop()
  })

  test('commits after commitIntervalMs, while the handler goes on', async () => {
    const ids = await world.fill('s', 2)
    let stop = (): void => undefined
    const stopped = new Promise<void>((resolve) => {
      stop = resolve
    })
    world.start('a', {
      commitIntervalMs: 30,
      process: async (record) => {
        if (record.id === ids[1]) await stopped
      },
    })
    await world.committedIs('s', ids[0])
    stop()
    await world.committedIs('s', ids[1])
  })

  test('commits and hands over when it closes, and the next worker goes on there', async () => {
    const ids = await world.fill('s', 100)
    const first = new Handled()
    const a = world.start('a', {
      commitIntervalMs: 60_000,
      commitEvery: 1000,
      process: async (record) => {
        first.note('s', record.id)
        await new Promise((resolve) => setTimeout(resolve, 3))
      },
    })
    await first.has('s', 5)
    const rest = new Handled()
    world.start('b', { process: (record) => rest.note('s', record.id) })
    await a.worker.close()
    expect(await seen(a, 'streamEnded')).toMatchObject({ how: 'released' })
    await rest.has('s', 100 - first.of('s').length)
    expect([...first.of('s'), ...rest.of('s')]).toEqual(ids)
  })

  test.each([0, 3, 10, 30])(
    'ends in good order when it is told to leave %i ms after its start',
    async (delayMs) => {
      const worker = world.worker('a', { process: () => undefined })
      const stop = new AbortController()
      setTimeout(() => stop.abort(), delayMs)
      await worker.run({ signal: stop.signal })
      expect((await worker.status()).client.session).toBe('closed')
      await noConnectionsOf('a')
    },
  )

  test('says from memory whether it has a session, for readiness', async () => {
    const worker = world.worker('a', { process: () => undefined })
    expect(worker.health().session).not.toBe('held')
    const running = worker.run()
    await eventually('its session is held', () => worker.health().session === 'held')
    await worker.close()
    expect(worker.health().session).toBe('closed')
    await running
  })

  test('leaves no connection open when it cannot start', async () => {
    await world.redis.set('orders-heartbeat:redis-consumer-a', 'another process')
    const worker = world.worker('a', { process: () => undefined, client: { heartbeatTtlMs: 200 } })
    await expect(worker.run()).rejects.toMatchObject({ code: 'CONSUMER_ID_IN_USE' })
    await noConnectionsOf('a')
  })

  test('gives running handlers their time when it closes, and no more', async () => {
    const ids = await world.fill('quick', 3)
    await world.fill('stuck', 3)
    const starts: string[] = []
    const a = world.start('a', {
      drainMs: 150,
      abandonAfterMs: 50,
      process: async (record, { signal, stream: { dataStreamName } }) => {
        starts.push(dataStreamName)
        if (dataStreamName === 'quick') await new Promise((resolve) => setTimeout(resolve, 60))
        else await new Promise(() => signal.addEventListener('abort', () => starts.push('aborted')))
        void record
      },
    })
    await eventually('both have begun', () => starts.length === 2)
    await a.worker.close()
    await a.running
    expect(starts).toEqual(expect.arrayContaining(['quick', 'stuck', 'aborted']))
    expect(starts).toHaveLength(3)
    expect(await world.committed('quick')).toBe(ids[0])
    expect(await world.committed('stuck')).toBeNull()
    expect(await seen(a, 'abandoned')).toMatchObject({ dataStreamName: 'stuck' })
  })
})

async function noConnectionsOf(name: string): Promise<void> {
  await eventually(
    'no connection is left',
    async () => String(await world.redis.client('LIST')),
    (list) => !list.includes(`:redis-consumer-${name}:`),
  )
}
