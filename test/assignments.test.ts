/** What a producer says arrives as it was said, or is refused where people see it; it never arrives as something else. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { keepWarnings } from './src/support/keep-warnings.js'
import type { Member } from './src/support/member.js'
import { RedisServer } from './src/support/redis-server.js'

const STEADY = {
  heartbeatTtlMs: 4000,
  lbsIdleTimeMs: 8000,
  probeIntervalMs: 200,
  claimStaggerMs: 50,
} as const
/** As a service in Go writes them: a snowflake, nanoseconds on a whole second, the greatest and the least of 64 bits. */
const GO_INFO =
  '{"id":1453972365124935681,"at":1732796227000000000,"max":[18446744073709551615],"min":{"min":-9223372036854775808},"n":42}'
const AS_READ = {
  id: '1453972365124935681',
  at: '1732796227000000000',
  max: ['18446744073709551615'],
  min: { min: '-9223372036854775808' },
  n: 42,
}

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

async function addRaw({ redis, state }: Fleet, message: string | Buffer): Promise<string> {
  return (await redis.xadd(state.lbsKey, '*', 'lbs-input', message)) as string
}

/** An assignment whose name has bytes that are not UTF-8 in its middle. */
function assignmentOf(...bytes: number[]): Buffer {
  return Buffer.concat([Buffer.from('{"DataStreamName":"a'), Buffer.from(bytes), Buffer.from('b"}')])
}

async function finishAll(member: Member): Promise<void> {
  for (const stream of member.streams) await member.done(stream)
}

describe.concurrent('integers that JavaScript cannot count up to', () => {
  test('arrive as their decimal text, also of an entry that has waited, with one warning', async () => {
    await using fleet = new Fleet(server, STEADY)
    const { said, logger } = keepWarnings()
    const member = await fleet.join('only', { logger })
    await addRaw(fleet, `{"DataStreamName":"s","Info":${GO_INFO}}`)
    const first = await member.given('s')
    expect(first.additionalInfo).toStrictEqual(AS_READ)
    await addRaw(fleet, `{"DataStreamName":"s","Info":${GO_INFO}}`)
    await eventually('the second waits', async () => (await fleet.state.backlog('s')) === 1)
    const [waiting] = await fleet.redis.lrange(`${fleet.service}-backlog:s`, 0, -1)
    expect((JSON.parse(waiting ?? '[]') as string[])[2]).toContain(GO_INFO)
    await member.done(first)
    const second = await member.given('s', first.fencingToken)
    expect(second.additionalInfo).toStrictEqual(AS_READ)
    expect(said.filter((each) => each.includes('handed over as text'))).toHaveLength(1)
    await member.done(second)
    await fleet.allDone()
  })

  test('can be given to the producer as bigint', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    await fleet.add('s', { id: 1453972365124935681n, small: [7n], n: 2 ** 60 })
    const stream = await member.given('s')
    expect(stream.additionalInfo).toStrictEqual({ id: '1453972365124935681', small: [7], n: 2 ** 60 })
    const [[, fields] = []] = await fleet.redis.xrange(fleet.state.lbsKey, '-', '+')
    expect(fields?.[1]).toContain('"id":1453972365124935681,')
    await member.done(stream)
    await fleet.allDone()
  })

  test('count with their digits towards maxInfoBytes, for the producer and for the client', async () => {
    const id = 10n ** 99n
    const maxInfoBytes = `{"id":${id}}`.length
    await using fleet = new Fleet(server, { ...STEADY, maxInfoBytes })
    const member = await fleet.join('only')
    await fleet.add('most', { id })
    await fleet.add('more', { id: 10n * id })
    expect((await member.given('most')).additionalInfo).toEqual({ id: `${id}` })
    const [letter] = await eventually(
      'a dead letter',
      () => fleet.state.deadLetters(),
      ({ length }) => length === 1,
    )
    expect(letter?.error).toContain(`Info has ${maxInfoBytes + 1} bytes`)
    await finishAll(member)
  })

  test("are refused with infoNumbers 'refuse'", async () => {
    await using fleet = new Fleet(server, { ...STEADY, infoNumbers: 'refuse' })
    const { said, logger } = keepWarnings()
    const member = await fleet.join('only', { logger })
    await addRaw(fleet, `{"DataStreamName":"bad","Info":${GO_INFO}}`)
    await addRaw(fleet, '{"DataStreamName":"good","Info":{"at":1732796227000000000}}')
    expect((await member.given('good')).additionalInfo).toEqual({ at: 1732796227000000000 })
    const [letter] = await eventually(
      'a dead letter',
      () => fleet.state.deadLetters(),
      ({ length }) => length === 1,
    )
    expect(letter?.error).toContain('1453972365124935681')
    expect(letter?.fields['lbs-input']).toContain(GO_INFO)
    expect(said.filter((each) => each.includes('handed over as text'))).toEqual([])
    await finishAll(member)
  })
})

test('a message that is much longer than the limits is refused by its length, whatever it says', async () => {
  await using fleet = new Fleet(server, { ...STEADY, maxNameBytes: 8, maxInfoBytes: 100 })
  const member = await fleet.join('only')
  const padded = (name: string, spaces: number) =>
    `{"DataStreamName":"${name}",${' '.repeat(spaces)}"Info":{}}`
  await addRaw(fleet, padded('spaced', 1000))
  await addRaw(fleet, padded('wide', 2000))
  await member.given('spaced')
  const [letter] = await eventually(
    'a dead letter',
    () => fleet.state.deadLetters(),
    ({ length }) => length === 1,
  )
  expect(letter?.error).toContain('it has 2035 bytes, more than the 1240 that go with maxNameBytes (8)')
  expect(member.owned).toEqual(['spaced'])
  await finishAll(member)
})

describe.concurrent('a name that is not UTF-8', () => {
  const names = [[0xff], [0xfe], [0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80], [0xf5, 0x80, 0x80, 0x80]]

  /** The messages in the dead letters, byte for byte. */
  async function buried(fleet: Fleet): Promise<Buffer[]> {
    const letters = await eventually(
      'all are dead letters',
      () => fleet.redis.xrangeBuffer(`${fleet.service}-dead`, '-', '+'),
      ({ length }) => length === names.length,
    )
    return letters.map(([, fields]) => Buffer.concat(fields))
  }

  async function expectRefused(fleet: Fleet): Promise<void> {
    const messages = await buried(fleet)
    for (const bytes of names) {
      const own = messages.filter((message) => message.includes(Buffer.from([0x61, ...bytes, 0x62])))
      expect(own).toHaveLength(1)
      expect(String(own[0])).toContain('it is not UTF-8')
    }
  }

  test('becomes no other name: its entry goes to the dead letters as it is', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    for (const bytes of names) await addRaw(fleet, assignmentOf(...bytes))
    await fleet.add('after')
    await member.given('after')
    await expectRefused(fleet)
    expect(member.owned).toEqual(['after'])
    await finishAll(member)
    await fleet.allDone()
  })

  test('is found among what an earlier session of the client has left, and among what a dead client has', async () => {
    await using fleet = new Fleet(server, STEADY)
    const { redis, state } = fleet
    for (const bytes of names) await addRaw(fleet, assignmentOf(...bytes))
    await redis.xgroup('CREATE', state.lbsKey, state.group, '0')
    for (const consumer of ['redis-consumer-heir:earlier', 'redis-consumer-gone:x']) {
      await redis.xreadgroup('GROUP', state.group, consumer, 'COUNT', 3, 'STREAMS', state.lbsKey, '>')
    }
    const member = await fleet.join('heir')
    await expectRefused(fleet)
    expect(member.owned).toEqual([])
    await fleet.allDone()
  })

  test('is refused by the producer, where JavaScript can say it', async () => {
    await using fleet = new Fleet(server, STEADY)
    await expect(fleet.add('a\ud800')).rejects.toMatchObject({ code: 'LBS_MESSAGE_INVALID', index: 1 })
    expect(await fleet.redis.exists(fleet.state.lbsKey)).toBe(0)
  })
})
