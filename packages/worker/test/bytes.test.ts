/** What is in Redis is what a handler, a dead letter and a replay have, whatever bytes it is. */
import { decode, encode } from '@msgpack/msgpack'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { NonRetryableError, RecordProducer, type StreamRecord } from '@redis-stream-client/worker'
import { Field, Type } from 'protobufjs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { World } from './support/world.js'

/** No UTF-8: it would not survive being read as text. */
const HOSTILE = Buffer.from('089601fffe0080', 'hex')
const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))

const Reading = new Type('Reading')
  .add(new Field('sensor', 1, 'uint32'))
  .add(new Field('note', 2, 'string'))
  .add(new Field('sample', 3, 'bytes'))

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

/** Names and values of the only record of a stream. */
async function only(stream: string): Promise<Buffer[]> {
  const entries = await world.redis.xrangeBuffer(stream, '-', '+')
  expect(entries).toHaveLength(1)
  return (entries as unknown as [Buffer, Buffer[]][])[0]?.[1] ?? []
}

describe('the bytes of a record', () => {
  test('reach the handler as they were given to the producer, as protobuf and as MessagePack', async () => {
    const protobuf = { sensor: 300, note: 'größer', sample: HOSTILE }
    const messagePack = { sensor: -1, values: [1.5, null, true], sample: new Uint8Array(ALL_BYTES) }
    const producer = new RecordProducer(world.redis, 'orders')
    await producer.add('protobuf', { data: Reading.encode(Reading.create(protobuf)).finish() })
    await producer.add('messagepack', { data: encode(messagePack) })
    const seen = new Map<string, unknown>()
    world.start('a', {
      process: (record) => {
        const bytes = record.bytes()
        seen.set(
          record.dataStreamName,
          record.dataStreamName === 'protobuf' ? Reading.toObject(Reading.decode(bytes)) : decode(bytes),
        )
      },
    })
    await eventually('both are handled', () => seen.size === 2)
    expect(seen.get('protobuf')).toEqual(protobuf)
    const { sample, ...rest } = seen.get('messagepack') as typeof messagePack
    expect({ ...rest, sample: new Uint8Array(sample) }).toEqual(messagePack)
  })

  test('are the same at each attempt, in the dead letter and after its replay', async () => {
    const words = [Buffer.from('data'), HOSTILE, ALL_BYTES, Buffer.alloc(0), HOSTILE, ALL_BYTES]
    await world.redis.xadd('s', '*', ...words)
    await world.assign('s')
    const attempts: Buffer[][] = []
    const { worker } = world.start('a', {
      retry: { attempts: 3, initialDelayMs: 1, maxDelayMs: 1 },
      trim: 'committed',
      process: (record) => {
        attempts.push([...record.rawBytes])
        if (attempts.length <= 3) throw new Error('not now')
      },
    })
    await eventually('it is a dead letter', async () => (await worker.deadLetters.count()) === 1)
    expect(attempts).toEqual([words, words, words])
    await eventually('it is trimmed', async () => (await world.redis.xlen('s')) === 0)
    const [letter] = await worker.deadLetters.list()
    expect(letter?.rawFields.flat()).toEqual(words)
    await worker.close()
    await worker.deadLetters.replay(letter?.id ?? '')
    expect(await only('s')).toEqual(words)
  })

  test('stay what they were when a record is replayed that is too large for a script', async () => {
    const large = Buffer.alloc(1_100_000, HOSTILE)
    await world.redis.xadd('s', '*', 'data', large)
    await world.assign('s')
    const { worker } = world.start('a', {
      trim: 'committed',
      process: () => {
        throw new NonRetryableError('never')
      },
    })
    await eventually('it is a dead letter', async () => (await worker.deadLetters.count()) === 1)
    await eventually('it is trimmed', async () => (await world.redis.xlen('s')) === 0)
    await worker.close()
    const [letter] = await worker.deadLetters.list()
    await worker.deadLetters.replay(letter?.id ?? '')
    const [, value] = await only('s')
    expect(value?.equals(large)).toBe(true)
    expect(await worker.deadLetters.count()).toBe(0)
  })

  test('are those of the moment of the call, whatever becomes of the memory they were in', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { announce: 'never' })
    const memory = new Uint8Array(HOSTILE)
    const adding = producer.add('s', { data: memory, view: new Uint8Array(memory.buffer, 1, 3) })
    memory.fill(0)
    await adding
    expect(await only('s')).toEqual([
      Buffer.from('data'),
      HOSTILE,
      Buffer.from('view'),
      HOSTILE.subarray(1, 4),
    ])
  })

  test('count as they are, not as text, where the producer has a limit', async () => {
    const producer = new RecordProducer(world.redis, 'orders', { announce: 'never', maxRecordBytes: 10 })
    await producer.add('s', { abc: HOSTILE })
    await expect(producer.add('s', { abcd: HOSTILE })).rejects.toMatchObject({ code: 'RECORD_INVALID' })
    for (const value of [new Uint16Array(2), new ArrayBuffer(2), [1, 2]]) {
      await expect(producer.add('s', { a: value as never })).rejects.toThrow('a Buffer or a Uint8Array')
    }
  })

  test('are given to batches, too', async () => {
    for (let n = 0; n < 3; n++) await world.redis.xadd('s', '*', 'n', Buffer.from([n, 0xff]))
    await world.assign('s')
    const seen: Buffer[] = []
    world.start('a', {
      processBatch: (records: readonly StreamRecord[]) => {
        seen.push(...records.map((record) => record.bytes('n')))
      },
    })
    await eventually('all are handled', () => seen.length === 3)
    expect(seen).toEqual([0, 1, 2].map((n) => Buffer.from([n, 0xff])))
  })
})
