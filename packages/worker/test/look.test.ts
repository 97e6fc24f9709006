/** What the worker's scripts read and remove in one call, whatever has piled up. */
import { Script } from '@redis-stream-client/client/internal'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RecordProducer } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { lookLua, trimLua } from '../src/redis/lua.generated.js'
import { World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

/** Adds records with the ids 1-0, 2-0, ... */
async function pile(stream: string, count: number, bytes = 1): Promise<void> {
  const lua = `for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], i .. '-0', 'data', ARGV[2]) end`
  await world.redis.eval(lua, 1, stream, count, 'x'.repeat(bytes))
}

type Look = [
  length: number,
  first: string,
  last: string,
  greatest: string,
  added: number,
  n: number,
  all: number,
]

async function look(streams: readonly string[], position: string): Promise<Look[]> {
  const limits = ['100', String(64 * 1024), String(1024 * 1024)]
  const args = [...limits, ...streams.map(() => position)]
  return (await new Script(lookLua).run(world.redis, streams, args)) as Look[]
}

describe('a look at a stream', () => {
  test('counts what lies after a position, up to a number of records', async () => {
    await pile('s', 1000)
    expect(await look(['s'], '0-0')).toEqual([[1000, '1-0', '1000-0', '1000-0', 1000, 1000, 1]])
    expect(await look(['s'], '1-0')).toEqual([[1000, '1-0', '1000-0', '1000-0', 1000, 100, 0]])
    expect(await look(['s'], '950-0')).toEqual([[1000, '1-0', '1000-0', '1000-0', 1000, 50, 1]])
    expect(await look(['s'], '1000-0')).toEqual([[1000, '1-0', '1000-0', '1000-0', 1000, 0, 1]])
    await world.redis.xtrim('s', 'MAXLEN', 0)
    expect(await look(['s', 'none'], '7-0')).toEqual([[0, null, null, '1000-0', 1000, 0, 1], null])
  })

  test('reads few records where they are large, and few streams in one call', async () => {
    const names = Array.from({ length: 25 }, (_, n) => `s${n}`)
    for (const name of names) await pile(name, 50, 10 * 1024)
    const looks = await look(names, '1-0')
    expect(looks.length).toBeGreaterThan(2)
    expect(looks.length).toBeLessThan(25)
    for (const [, , , , , counted, isAll] of looks) {
      expect(isAll).toBe(0)
      expect(counted).toBeLessThan(20)
    }
  })
})

test('the status has the lag of every stream, estimated where counting would cost too much', async () => {
  const names = Array.from({ length: 25 }, (_, n) => `large-${n}`)
  for (const name of names) await pile(name, 50, 10 * 1024)
  await pile('short', 50)
  await pile('long', 100_000)
  let open = (): void => undefined
  const gate = new Promise<void>((resolve) => {
    open = resolve
  })
  for (const name of ['short', 'long', ...names]) await world.assign(name)
  const { worker } = world.start('a', { readCount: 5, process: () => gate })
  await eventually(
    'every stream is being worked on',
    async () => (await worker.status()).streams,
    (all) => all.length === 27 && all.every(({ buffered }) => buffered > 5),
  )
  // Once more, because a stream may have been looked at before the first of its records were read.
  const { streams } = await worker.status()
  const lagOf = (name: string) => streams.find(({ dataStreamName }) => dataStreamName === name)?.lag
  open()
  expect(lagOf('short')).toMatchObject({ records: 50, isEstimate: false })
  for (const name of names) {
    expect(lagOf(name)?.isEstimate).toBe(true)
    expect(Math.abs((lagOf(name)?.records ?? 0) - 50)).toBeLessThan(3)
  }
  expect(lagOf('long')?.isEstimate).toBe(true)
  expect(Math.abs((lagOf('long')?.records ?? 0) - 100_000)).toBeLessThan(100)
})

test('trimming removes a bounded number of records in one call, and up to the position in the end', async () => {
  await pile('s', 100_000)
  const trim = async (): Promise<unknown> =>
    await new Script(trimLua).run(world.redis, ['s'], ['99951-0', '1000', '10000'])
  expect(await trim()).toBe(0)
  expect(await world.redis.xlen('s')).toBeGreaterThanOrEqual(88_000)
  for (let calls = 1; (await trim()) === 0; calls++) expect(calls).toBeLessThan(20)
  expect((await world.redis.xrange('s', '-', '+', 'COUNT', 1))[0]?.[0]).toBe('99951-0')
  expect(await world.redis.xlen('s')).toBe(50)
})

test('a worker that trims what is committed goes on until all of it is gone', async () => {
  await pile('s', 30_000)
  await world.redis.hset('orders-checkpoints', 's', '29990-0')
  await world.assign('s')
  world.start('a', { trim: 'committed', process: () => undefined })
  await eventually(
    'nothing is left',
    () => world.redis.xlen('s'),
    (length) => length === 0,
  )
})

describe('the marks of announced streams', () => {
  test('are gone when the streams are finished', async () => {
    const producer = new RecordProducer(world.redis, 'orders')
    world.start('a', { process: (_, { done }) => done() })
    await Promise.all(Array.from({ length: 30 }, (_, n) => producer.add(`s${n}`, { n })))
    await eventually(
      'no mark is left',
      () => world.redis.hlen('orders-announced'),
      (count) => count === 0,
    )
  })

  test('are removed little by little where nobody did, and never while they are needed', async () => {
    const producer = new RecordProducer(world.redis, 'orders')
    const stale = Array.from({ length: 300 }, (_, n) => [`gone-${n}`, '1-0'])
    await world.redis.hset('orders-announced', ...stale.flat())
    const names = Array.from({ length: 300 }, (_, n) => `s${n}`)
    for (const name of names) expect(await producer.announce(name)).not.toBeNull()
    const marks = Object.keys(await world.redis.hgetall('orders-announced'))
    expect(marks.filter((name) => name.startsWith('gone-')).length).toBeLessThan(200)
    for (const name of names) expect(await producer.announce(name)).toBeNull()
  })
})
