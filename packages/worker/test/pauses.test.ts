import { fileURLToPath } from 'node:url'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { Program } from '@redis-stream-client/test/support/processes'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, type Running, seen, World } from './support/world.js'

const PROGRAM = fileURLToPath(new URL('programs/worker.mjs', import.meta.url))

let world: World
let handled: Handled

beforeEach(async () => {
  world = await World.start()
  handled = new Handled()
})
afterEach(() => world[Symbol.asyncDispose]())

const process = ({ dataStreamName, id }: { dataStreamName: string; id: string }): void =>
  handled.note(dataStreamName, id)

async function owns(started: Running, stream: string): Promise<void> {
  await seen(started, 'streamStarted', ({ dataStreamName }) => dataStreamName === stream)
}

/** Resolves when the worker has handled a record that was added now, so what it may begin before that has begun. */
async function hasHandledMore(stream: string): Promise<void> {
  const before = handled.of(stream).length
  await world.fill(stream, 1, { assign: false })
  await handled.has(stream, before + 1)
}

describe('a stream that is paused', () => {
  test('begins no record while the others go on, and continues when it is resumed', async () => {
    const counts: number[] = []
    const started = world.start('a', { process, metrics: { paused: ({ streams }) => counts.push(streams) } })
    await world.fill('s', 1)
    await world.fill('t', 1)
    await handled.has('s', 1)
    await handled.has('t', 1)
    await started.worker.pause('s')
    const more = await world.fill('s', 2, { assign: false })
    await hasHandledMore('t')
    await hasHandledMore('t')
    expect(handled.of('s')).toHaveLength(1)
    expect((await started.worker.status()).streams).toContainEqual(
      expect.objectContaining({ dataStreamName: 's', paused: 'local', buffered: 0 }),
    )
    expect(started.worker.health().paused).toEqual({ isPaused: false, streams: 1 })
    expect(await seen(started, 'streamPaused')).toMatchObject({ dataStreamName: 's', isKept: false })
    await started.worker.resume('s')
    expect((await handled.has('s', 3)).slice(1)).toEqual(more)
    expect(counts).toEqual([1, 0])
    await expect(started.worker.resume('s')).rejects.toMatchObject({ code: 'STREAM_NOT_HALTED' })
    await expect(started.worker.pause('u')).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
  })

  test('lets the record in hand come to its end, and keeps what it commits', async () => {
    let goOn = (): void => undefined
    const started = world.start('a', {
      commitIntervalMs: 60_000,
      process: async (record, { transaction }) => {
        process(record)
        await new Promise<void>((resolve) => {
          goOn = resolve
        })
        await transaction(record, (multi) => multi.incr('count'))
      },
    })
    const ids = await world.fill('s', 2)
    await handled.has('s', 1)
    await started.worker.pause('s', { keep: true })
    goOn()
    await world.committedIs('s', ids[0])
    expect(await world.redis.hget('orders-checkpoints', 's')).toContain('"paused":true')
    await eventually('nothing runs', async () => (await started.worker.status()).running === 0)
    expect(handled.of('s')).toHaveLength(1)
    await started.worker.resume('s')
    await handled.has('s', 2)
    goOn()
    await world.committedIs('s', ids[1])
    expect(await world.redis.hget('orders-checkpoints', 's')).not.toContain('paused')
  })

  test('is neither idle nor stuck, and is left out of the lag of those that are behind', async () => {
    const lags: { name: string; greatestLagMs: number }[] = []
    const started = world.start('a', {
      process,
      idleMs: 100,
      lagIntervalMs: 20,
      client: { progressTimeoutMs: 100 },
      metrics: {
        lag: ({ dataStreamName, lagMs }) => lags.push({ name: dataStreamName, greatestLagMs: lagMs }),
        totalLag: ({ greatestLagMs, records }) => {
          if (records === 2) lags.push({ name: 'all', greatestLagMs })
        },
      },
    })
    await started.worker.pause()
    await world.redis.xadd('s', '1-0', 'a', 'b')
    await world.redis.xadd('s', '5000000000000-0', 'a', 'b')
    await world.assign('s')
    await world.assign('empty')
    await owns(started, 's')
    await owns(started, 'empty')
    const until = Date.now() + 500
    await eventually('some lags', () => lags.length > 5 && Date.now() > until)
    expect(new Set(lags.map(({ name }) => name))).toEqual(new Set(['all']))
    expect(lags.every(({ greatestLagMs }) => greatestLagMs === 0)).toBe(true)
    expect(started.events.map(({ event }) => event)).not.toContain('streamEnded')
    expect(await world.redis.hlen('orders-locks')).toBe(2)
  })

  test('goes on under the next owner, unless the pause is to be kept', async () => {
    const a = world.start('a', { process })
    await world.assign('s')
    await world.assign('t')
    await owns(a, 's')
    await owns(a, 't')
    await a.worker.pause('s')
    await a.worker.pause('t', { keep: true })
    await world.fill('s', 1, { assign: false })
    await world.fill('t', 1, { assign: false })
    await a.worker.close()
    const b = world.start('b', { process })
    await handled.has('s', 1)
    expect(await seen(b, 'streamPaused')).toMatchObject({ dataStreamName: 't', isKept: true })
    await hasHandledMore('s')
    expect(handled.of('t')).toEqual([])
    await b.worker.resume('t')
    await handled.has('t', 1)
  })

  test('stays paused for whoever comes when its owner is killed', async () => {
    const client = { consumerId: 'a', heartbeatTtlMs: 600, lbsIdleTimeMs: 1200 }
    const options = { commitIntervalMs: 60_000 }
    const where = { url: world.server.url, service: world.service }
    const argument = JSON.stringify({ ...where, client, options, pausesAll: true })
    const program = Program.start(PROGRAM, { args: [argument] })
    try {
      await world.assign('s')
      await program.nextLine((line) => line['type'] === 'paused')
    } finally {
      await program.kill()
    }
    await world.fill('s', 1, { assign: false })
    const b = world.start('b', { process })
    await seen(b, 'streamPaused')
    await world.fill('t', 1)
    await handled.has('t', 1)
    expect(handled.of('s')).toEqual([])
    await b.worker.resume()
    await handled.has('s', 1)
  })

  test('begins anew with its next assignment when it ends all the same', async () => {
    let goOn = (): void => undefined
    const started = world.start('a', {
      process: async (record, { attempt, done }) => {
        process(record)
        if (handled.of('s').length > 1) return
        await new Promise<void>((resolve) => {
          goOn = resolve
        })
        if (attempt === 1) done()
      },
    })
    const ids = await world.fill('s', 1)
    await handled.has('s', 1)
    await started.worker.pause('s', { keep: true })
    goOn()
    await seen(started, 'streamEnded')
    ids.push(...(await world.fill('s', 1)))
    expect(await handled.has('s', 2)).toEqual(ids)
  })
})

describe('a worker that is paused', () => {
  test('begins nothing, in streams it takes later neither, until it is resumed', async () => {
    const started = world.start('a', { process })
    await world.fill('s', 1)
    await handled.has('s', 1)
    await started.worker.pause()
    await world.fill('s', 1, { assign: false })
    await world.fill('t', 1)
    await owns(started, 't')
    expect(started.worker.health().paused).toEqual({ isPaused: true, streams: 2 })
    expect(handled.of('t')).toEqual([])
    await started.worker.resume('t')
    await handled.has('t', 1)
    expect(handled.of('s')).toHaveLength(1)
    await started.worker.resume()
    await handled.has('s', 2)
    expect(started.worker.health().paused).toEqual({ isPaused: false, streams: 0 })
  })

  test('leaves every stream it had or took paused, if the pause is to be kept', async () => {
    const a = world.start('a', { process })
    await world.fill('s', 1)
    await handled.has('s', 1)
    await a.worker.pause({ keep: true })
    await world.fill('s', 1, { assign: false })
    await world.fill('t', 1)
    await owns(a, 't')
    await a.worker.close()
    const b = world.start('b', { process })
    await owns(b, 's')
    await owns(b, 't')
    await eventually('both are paused', () => b.worker.health().paused.streams === 2)
    await world.fill('u', 1)
    await handled.has('u', 1)
    expect([handled.of('s').length, handled.of('t').length]).toEqual([1, 0])
    await b.worker.resume()
    await handled.has('s', 2)
    await handled.has('t', 1)
  })
})
