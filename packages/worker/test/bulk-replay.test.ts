import { DeadLetters, type ReplayProgress } from '@redis-stream-client/worker'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Handled, seen, World } from './support/world.js'

let world: World
let letters: DeadLetters

beforeEach(async () => {
  world = await World.start()
  letters = new DeadLetters(world.redis, world.service)
})
afterEach(() => world[Symbol.asyncDispose]())

async function bury(stream: string, error: string, n: number): Promise<void> {
  const fields = JSON.stringify(['n', String(n)])
  await world.redis.xadd(
    'orders-dead-records',
    '*',
    'stream',
    stream,
    'id',
    `${n}-0`,
    'fields',
    fields,
    'error',
    error,
  )
}

async function numbers(stream: string): Promise<number[]> {
  return (await world.redis.xrange(stream, '-', '+')).map(([, fields]) => Number(fields[1]))
}

test('many dead letters are replayed in their order, by stream and by error, with progress', async () => {
  for (let n = 0; n < 60; n++)
    await bury(n % 2 === 0 ? 's' : 't', n % 3 === 0 ? 'Error: down' : 'Error: wrong', n)
  const seen: ReplayProgress[] = []
  const done = await letters.replayMany({
    dataStreamName: 's',
    error: 'down',
    onProgress: (progress) => seen.push(progress),
  })
  expect(done).toMatchObject({ looked: 60, replayed: 10, refused: 0 })
  expect(seen.slice(0, 3).map(({ looked }) => looked)).toEqual([20, 40, 60])
  expect(await numbers('s')).toEqual([0, 6, 12, 18, 24, 30, 36, 42, 48, 54])
  expect(await numbers('t')).toEqual([])
  expect(await letters.count()).toBe(50)
})

test('a replay of many can be limited, stopped and continued, and passes what cannot be replayed', async () => {
  await bury('orders-locks', 'Error', 0)
  for (let n = 1; n < 50; n++) await bury('s', 'Error', n)
  const first = await letters.replayMany({ count: 5 })
  expect(first).toMatchObject({ replayed: 5, refused: 1, looked: 6 })
  const stop = new AbortController()
  const second = await letters.replayMany({
    after: first.after ?? undefined,
    signal: stop.signal,
    onProgress: () => stop.abort(),
  })
  expect(second).toMatchObject({ looked: 20, replayed: 20 })
  expect(await letters.replayMany({ after: second.after ?? undefined })).toMatchObject({ replayed: 24 })
  expect(await numbers('s')).toEqual(Array.from({ length: 49 }, (_, n) => n + 1))
})

test('a letter that comes while many are replayed is not among them', async () => {
  for (let n = 0; n < 3; n++) await bury('s', 'Error', n)
  let added = 0
  const done = await letters.replayMany({ onProgress: async () => await bury('s', 'Error', 100 + added++) })
  expect(done).toMatchObject({ replayed: 3 })
})

test('the letter of a halted stream is replayed at its head: order is kept, and the letter goes in the same step', async () => {
  const handled = new Handled()
  let isDown = true
  const started = world.start('a', {
    onExhausted: 'halt',
    retry: { attempts: 1 },
    process: ({ id }) => {
      if (isDown) throw new Error('down')
      handled.note('s', id)
    },
  })
  const ids = await world.fill('s', 3)
  await seen(started, 'streamHalted')
  const [letter] = await letters.list()
  isDown = false
  await started.worker.replayAtHead(String(letter?.id))
  expect(await letters.count()).toBe(0)
  expect(await handled.has('s', 3)).toEqual(ids)
  await expect(started.worker.replayAtHead(String(letter?.id))).rejects.toMatchObject({
    code: 'DEAD_LETTER_GONE',
  })
})

test('a letter whose record is not in its stream any more is not replayed at the head, and stays', async () => {
  const started = world.start('a', {
    onExhausted: 'halt',
    retry: { attempts: 1 },
    process: () => {
      throw new Error('down')
    },
  })
  const [id] = await world.fill('s', 2)
  await seen(started, 'streamHalted')
  const [letter] = await letters.list()
  await world.redis.xdel('s', String(id))
  await expect(started.worker.replayAtHead(String(letter?.id))).rejects.toMatchObject({
    code: 'DEAD_LETTER_GONE',
  })
  expect(await letters.count()).toBe(1)
})
