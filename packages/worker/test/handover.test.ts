/** What goes on when a stream changes hands: one handler at a time, backoff that is kept, and no waiting for permits. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { retryAfter } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, type Running, seen, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

test('a stream that is lost and taken again at once has one handler at a time', async () => {
  await world.fill('s', 1)
  let isHeld = true
  let open = 0
  let most = 0
  const handled = new Handled()
  const started = world.start('a', {
    abandonAfterMs: 60_000,
    readConnections: 1,
    process: async ({ dataStreamName, id }) => {
      if (dataStreamName !== 's') return handled.note(dataStreamName, id)
      most = Math.max(most, ++open)
      await eventually('the handler may end', () => !isHeld, Boolean, { timeoutMs: 20_000 })
      open--
      handled.note('s', id)
    },
  })
  await eventually('the handler runs', () => open === 1)
  const before = await world.redis.hget('orders-locks', 's')
  await world.redis.del('orders-heartbeat:redis-consumer-a')
  await seen(started, 'streamEnded', ({ how }) => how === 'lost')
  await eventually(
    'the stream is taken again',
    async () => {
      const { client } = await started.worker.status()
      return client.owned === 1 && (await world.redis.hget('orders-locks', 's')) !== before
    },
    Boolean,
    { timeoutMs: 15_000 },
  )
  await world.fill('t', 1) // comes to the worker after what it was told of `s`
  await handled.has('t', 1)
  expect(open).toBe(1)
  isHeld = false
  await handled.has('s', 2)
  expect(most).toBe(1)
})

describe('a record that has failed', () => {
  const statusOf = async ({ worker }: Running): Promise<unknown> => (await worker.status()).streams[0]

  test.each(['process', 'processBatch'] as const)('waits under the next owner, too (%s)', async (mode) => {
    const ids = await world.fill('s', 3)
    let calls = 0
    const later = (): never => {
      calls++
      throw retryAfter(60_000)
    }
    const options = mode === 'process' ? { process: later } : { processBatch: later }
    for (const name of ['a', 'b', 'c']) {
      const started = world.start(name, options)
      await eventually(
        `${name} waits`,
        () => statusOf(started),
        (status) => (status as { state?: string } | undefined)?.state === 'retrying',
      )
      expect(await statusOf(started)).toMatchObject({
        failure: { id: ids[0], attempts: mode === 'process' ? 1 : 0, dueAtMs: expect.any(Number) },
      })
      await started.worker.close()
    }
    expect(calls).toBe(1)
  })

  test('is tried again by the next owner when it is due', async () => {
    const ids = await world.fill('s', 1, { assign: false })
    const nowMs = Date.now()
    const failed = {
      id: ids[0],
      attempts: 1,
      firstAtMs: nowMs,
      lastAtMs: nowMs,
      dueAtMs: nowMs + 300,
      error: 'no',
    }
    await world.redis.hset('orders-checkpoints', 's', JSON.stringify({ id: '0-0', failed }))
    await world.assign('s')
    const times: number[] = []
    world.start('a', { process: () => void times.push(Date.now()) })
    await world.committedIs('s', ids[0])
    expect(times[0]).toBeGreaterThanOrEqual(nowMs + 299) // a timer may be early by the fraction of a millisecond
  })
})

test('a worker that closes hands over at once what waits for a permit, and nothing comes twice', async () => {
  const handled = new Handled()
  const streams = ['s', 't', 'u']
  for (const stream of streams) await world.fill(stream, 3)
  const process = ({ dataStreamName, id }: { dataStreamName: string; id: string }): void =>
    handled.note(dataStreamName, id)
  const a = world.start('a', {
    commitIntervalMs: 60_000,
    drainMs: 1500,
    rateLimit: { process: { records: 2, perMs: 3_600_000 } },
    process,
  })
  await seen(a, 'rateLimited')
  await eventually('all wait', async () => (await a.worker.status()).running === 3)
  await a.worker.close()
  const ends = a.events.filter(({ event }) => event === 'streamEnded')
  expect(ends.map(({ how }) => how)).toEqual(['released', 'released', 'released'])
  world.start('b', { process })
  for (const stream of streams) {
    const ids = (await world.redis.xrange(stream, '-', '+')).map(([id]) => id)
    expect(await handled.has(stream, 3)).toEqual(ids)
  }
})
