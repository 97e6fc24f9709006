/** A data stream that has the name of a key of its service: nobody works on it, and the key stays as it was. */
import { LbsProducer } from '@redis-stream-client/client'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { NonRetryableError, RecordProducer } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

const RESERVED = [
  'input',
  'locks',
  'fence',
  'checkpoints',
  'dead',
  'probe',
  'dead-records',
  'announced',
  'heartbeat:redis-consumer-a',
  'backlog:s',
  'late:s',
  'wake:redis-consumer-a:0',
  'idempotency:s',
  'idempotency-times:s',
  'rate-limit',
].map((ending) => `orders-${ending}`)

async function assignRaw(name: string): Promise<void> {
  await world.redis.xadd('orders-input', '*', 'lbs-input', JSON.stringify({ DataStreamName: name }))
}

describe('a data stream named like a key of the service', () => {
  test.each([
    ['deletes', { onDone: 'delete', idleMs: 50 }],
    ['trims', { trim: 'committed' }],
  ] as const)(
    'goes to the dead letters of a worker that %s, and no assignment is lost',
    async (_, options) => {
      const handled = new Handled()
      for (const name of RESERVED) await assignRaw(name)
      const names = Array.from({ length: 20 }, (__, n) => `orders-${n}`)
      for (const name of names) await world.fill(name, 1)
      const { events } = world.start('a', {
        ...options,
        maxOwnedStreams: 5,
        process: (record, { done }) => {
          handled.note(record.dataStreamName, record.id)
          done()
        },
      })
      for (const name of names) await handled.has(name, 1)
      const letters = await eventually(
        'every reserved name is in the dead letters',
        () => world.redis.xrange('orders-dead', '-', '+'),
        ({ length }) => length === RESERVED.length,
      )
      for (const [index, [, fields]] of letters.entries()) {
        expect(fields[fields.indexOf('reason') + 1]).toBe('reserved-name')
        expect(fields[fields.indexOf('error') + 1]).toContain(
          `${RESERVED[index]} is a key of the service orders`,
        )
      }
      const started = events.filter(({ event }) => event === 'streamStarted')
      expect(new Set(started.map(({ dataStreamName }) => dataStreamName))).toEqual(new Set(names))
    },
  )

  test('is refused by the producers, and nothing is written', async () => {
    const records = new RecordProducer(world.redis, 'orders')
    const streams = new LbsProducer(world.redis, 'orders')
    for (const name of RESERVED) {
      const invalid = { code: 'RECORD_INVALID' }
      await expect(records.add(name, { a: 'b' })).rejects.toMatchObject(invalid)
      await expect(records.addMany(name, [{ fields: { a: 'b' } }])).rejects.toMatchObject(invalid)
      await expect(records.announce(name)).rejects.toMatchObject(invalid)
      await expect(streams.add(name)).rejects.toMatchObject({
        code: 'LBS_MESSAGE_INVALID',
        message: expect.stringContaining('give the data stream another name'),
      })
    }
    expect(await world.redis.dbsize()).toBe(0)
  })

  test('does not let dead records make more of themselves', async () => {
    await world.fill('s', 3)
    await assignRaw('orders-dead-records')
    const { events } = world.start('a', {
      process: () => {
        throw new NonRetryableError('no')
      },
    })
    await eventually('three are dead', async () => (await world.redis.xlen('orders-dead-records')) >= 3)
    await eventually('the assignment is dead', async () => (await world.redis.xlen('orders-dead')) === 1)
    expect(events.filter(({ event }) => event === 'deadLetter')).toHaveLength(3)
    expect(await world.redis.xlen('orders-dead-records')).toBe(3)
  })

  test('gets no record back from the dead letters', async () => {
    const { worker } = world.start('a', { process: () => undefined })
    const facts = {
      stream: 'orders-input',
      id: '1-0',
      fields: '["a","b"]',
      error: '',
      attempts: 1,
      owner: '',
    }
    const id = await world.redis.xadd('orders-dead-records', '*', ...Object.entries(facts).flat())
    await expect(worker.deadLetters.replay(id as string)).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    expect(await worker.deadLetters.count()).toBe(1)
  })
})
