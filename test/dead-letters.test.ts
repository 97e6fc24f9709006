/** Entries nobody can serve: malformed ones, and those whose owners crash again and again. */
import type { DeadLetter } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { RedisServer } from './src/support/redis-server.js'

/** Sessions that hold on a busy machine. */
const STEADY = {
  heartbeatTtlMs: 4000,
  lbsIdleTimeMs: 8000,
  probeIntervalMs: 200,
  claimStaggerMs: 50,
} as const
/** Sessions of clients that are to be killed. */
const FAST = { heartbeatTtlMs: 800, lbsIdleTimeMs: 2000, claimStaggerMs: 50 } as const

// Processes take their time to start on a busy machine.
vi.setConfig({ testTimeout: 60_000 })

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

const MALFORMED: readonly { what: string; fields: readonly string[]; error: RegExp }[] = [
  { what: 'text that is not JSON', fields: ['lbs-input', 'not JSON'], error: /JSON/ },
  { what: 'no field lbs-input', fields: ['other', '{"DataStreamName":"x"}'], error: /lbs-input/ },
  { what: 'no name', fields: ['lbs-input', '{"Info":{}}'], error: /DataStreamName/ },
  { what: 'an empty name', fields: ['lbs-input', '{"DataStreamName":""}'], error: /DataStreamName/ },
  { what: 'a list as Info', fields: ['lbs-input', '{"DataStreamName":"x","Info":[1]}'], error: /Info/ },
  { what: 'a list as message', fields: ['lbs-input', '["x"]', 'more', 'fields'], error: /object/ },
]

function fieldsOf(flat: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {}
  for (let i = 0; i + 1 < flat.length; i += 2) fields[flat[i] as string] = flat[i + 1] as string
  return fields
}

describe.concurrent('a malformed entry', () => {
  test.each(MALFORMED)(
    'with $what goes to the dead letters, and its neighbours are delivered',
    async (each) => {
      await using fleet = new Fleet(server, {
        ...STEADY,
        metrics: { deadLettered: (event) => counted.push(event) },
      })
      const counted: unknown[] = []
      const letters: DeadLetter[] = []
      const member = fleet.make('only')
      member.client.on('deadLetter', (letter) => letters.push(letter))
      const startedAt = Date.now()
      await fleet.add('before')
      const id = (await fleet.redis.xadd(fleet.state.lbsKey, '*', ...each.fields)) as string
      await fleet.add('after')
      await member.init()
      await Promise.all([member.given('before'), member.given('after')])
      const [letter, ...others] = await eventually(
        'a dead letter',
        () => fleet.state.deadLetters(),
        (found) => found.length > 0,
      )
      expect(others).toEqual([])
      expect(letter).toMatchObject({
        reason: 'malformed',
        id,
        client: member.client.id,
        fields: fieldsOf(each.fields),
      })
      expect(letter?.error).toMatch(each.error)
      expect(letter?.at).toBeGreaterThanOrEqual(startedAt - 1000)
      expect(letter?.at).toBeLessThanOrEqual(Date.now() + 1000)
      await eventually('the event', () => letters.length === 1)
      expect(letters[0]).toMatchObject({ idInLbs: id, reason: 'malformed', error: letter?.error })
      expect(counted).toEqual([{ reason: 'malformed' }])
      expect(await fleet.state.lbsIds()).not.toContain(id)
      expect(member.streams.map(({ dataStreamName }) => dataStreamName).sort()).toEqual(['after', 'before'])
    },
  )

  test('that names a key of the service is left to nobody: not read, not recovered, not claimed', async () => {
    await using fleet = new Fleet(server, STEADY)
    const { redis, state } = fleet
    const name = `${state.lbsKey}`
    const message = JSON.stringify({ DataStreamName: name })
    await redis.xadd(state.lbsKey, '*', 'lbs-input', message)
    await redis.xgroup('CREATE', state.lbsKey, state.group, '0')
    const gone = ['GROUP', state.group, 'redis-consumer-gone:x', 'COUNT', 9] as const
    await redis.xreadgroup(...gone, 'STREAMS', state.lbsKey, '>')
    const member = await fleet.join('heir')
    const idInLbs = (await redis.xadd(state.lbsKey, '*', 'lbs-input', message)) as string
    await expect(member.client.claim({ dataStreamName: name, idInLbs })).rejects.toMatchObject({
      code: 'STREAM_GONE',
    })
    await fleet.add('good')
    await member.given('good')
    const letters = await eventually(
      'both are dead letters',
      () => state.deadLetters(),
      ({ length }) => length === 2,
    )
    expect(letters.map(({ reason }) => reason)).toEqual(['reserved-name', 'reserved-name'])
    expect(member.streams.map(({ dataStreamName }) => dataStreamName)).toEqual(['good'])
    await member.done(member.streams[0] as (typeof member.streams)[number])
    await fleet.allDone()
  })

  test('in great number hides no good one', async () => {
    await using fleet = new Fleet(server, STEADY)
    await Promise.all(['a', 'b', 'c'].map((name) => fleet.join(name)))
    const good: string[] = []
    for (let round = 0; round < 60; round++) {
      const bad = MALFORMED[round % MALFORMED.length] as (typeof MALFORMED)[number]
      good.push(`stream-${round}`)
      await Promise.all([
        fleet.redis.xadd(fleet.state.lbsKey, '*', ...bad.fields),
        fleet.add(`stream-${round}`),
        fleet.redis.xadd(fleet.state.lbsKey, '*', ...bad.fields),
      ])
    }
    await fleet.allOwned(good)
    await eventually(
      'all bad ones are dead letters',
      () => fleet.state.deadLetters(),
      (letters) => letters.length === 120,
    )
    expect(new Set((await fleet.state.deadLetters()).map(({ id }) => id)).size).toBe(120)
    await Promise.all(fleet.holdings().map(({ owner, stream }) => owner.done(stream)))
    await fleet.allDone()
  })

  test('that a dead client has read goes to the dead letters too', async () => {
    await using fleet = new Fleet(server, STEADY)
    const { redis, state } = fleet
    await fleet.add('good')
    await redis.xadd(state.lbsKey, '*', 'lbs-input', '{')
    await redis.xgroup('CREATE', state.lbsKey, state.group, '0')
    await redis.xreadgroup(
      'GROUP',
      state.group,
      'redis-consumer-gone:x',
      'COUNT',
      9,
      'STREAMS',
      state.lbsKey,
      '>',
    )
    const member = await fleet.join('heir')
    await member.given('good')
    const letters = await eventually(
      'a dead letter',
      () => fleet.state.deadLetters(),
      (found) => found.length > 0,
    )
    expect(letters).toMatchObject([{ reason: 'malformed', fields: { 'lbs-input': '{' } }])
    await member.done(member.streams[0] as (typeof member.streams)[number])
    await fleet.allDone()
  })

  test.each([
    ['binary bytes', Buffer.from([0x7b, 0xff, 0xfe, 0x00, 0x7d])],
    ['a very long text', Buffer.from('x'.repeat(300_000))],
  ])('of %s harms nobody', async (_, payload) => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    await fleet.redis.xadd(fleet.state.lbsKey, '*', 'lbs-input', payload)
    await fleet.add('after')
    await member.given('after')
    await eventually('a dead letter', async () => (await fleet.state.deadLetters()).length === 1)
  })
})

describe.concurrent('a message of the Go client', () => {
  test('is understood: names in any case, Info null or absent, unknown fields', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    for (const message of [
      '{"DataStreamName":"one","Info":{"a":1},"Version":2}',
      '{"datastreamname":"two","INFO":null}',
      '{"dataStreamName":"three"}',
    ]) {
      await fleet.redis.xadd(fleet.state.lbsKey, '*', 'lbs-input', message)
    }
    const infos = []
    for (const name of ['one', 'two', 'three']) infos.push((await member.given(name)).additionalInfo)
    expect(infos).toEqual([{ a: 1 }, {}, {}])
  })
})

describe.concurrent('an entry whose owners are killed again and again', () => {
  const CRASHY = { ...FAST, claimMode: 'auto', maxCrashes: 2 } as const

  /** Kills whoever owns the stream until nobody does any more; answers how many it were. */
  async function killOwners(
    fleet: Fleet,
    name: string,
    act?: (kills: number) => Promise<void>,
  ): Promise<number> {
    for (let kills = 0; ; ) {
      const [lock, letters] = await eventually(
        `somebody owns ${name}, or it is a dead letter`,
        async () => [await fleet.state.lock(name), await fleet.state.deadLetters()] as const,
        ([record, found]) => found.length > 0 || isAlive(fleet, record?.owner),
        { timeoutMs: 15_000 },
      )
      if (letters.length > 0) return kills
      await act?.(kills)
      const victim = fleet.processes.find(({ clientId }) => clientId === lock?.owner)
      await victim?.kill()
      fleet.processes.splice(fleet.processes.indexOf(victim as (typeof fleet.processes)[number]), 1)
      kills++
      if (kills > 10) return kills
    }
  }

  function isAlive(fleet: Fleet, owner: string | null | undefined): boolean {
    return fleet.processes.some(({ clientId }) => clientId === owner)
  }

  test('goes to the dead letters after maxCrashes of them, and the next of its name is served', async () => {
    await using fleet = new Fleet(server, CRASHY)
    await Promise.all(['a', 'b', 'c', 'd'].map((name) => fleet.spawn(name)))
    const id = await fleet.add('poison', { dose: 1 })
    await eventually('it is owned', () => fleet.state.lock('poison'))
    await fleet.add('poison', { dose: 2 })
    await eventually('the second waits', () => fleet.state.backlog('poison'))
    expect(await killOwners(fleet, 'poison')).toBe(3)
    const letters = await fleet.state.deadLetters()
    const [survivor] = fleet.processes
    expect(letters).toMatchObject([
      {
        reason: 'max-crashes',
        id,
        fields: { 'lbs-input': '{"DataStreamName":"poison","Info":{"dose":1}}' },
        client: survivor?.clientId,
      },
    ])
    const next = await survivor?.given('poison')
    expect(next).toMatchObject({ recovered: false, checkpoint: null })
    expect(await survivor?.call({ call: 'done', fence: next?.fencingToken ?? 0 })).toMatchObject({ ok: true })
    await fleet.allDone()
  })

  test('has as many lives again after an owner has committed', async () => {
    await using fleet = new Fleet(server, CRASHY)
    await Promise.all(['a', 'b', 'c', 'd', 'e'].map((name) => fleet.spawn(name)))
    await fleet.add('stream')
    const kills = await killOwners(fleet, 'stream', async (count) => {
      if (count !== 1) return
      const ownerId = (await fleet.state.lock('stream'))?.owner
      const owner = fleet.processes.find(({ clientId }) => clientId === ownerId)
      const held = await owner?.given('stream')
      await owner?.call({ call: 'commit', fence: held?.fencingToken ?? 0, checkpoint: 'progress' })
      expect(await fleet.state.lock('stream')).toMatchObject({ crashes: 0 })
    })
    // One before it, then the second owner and two more.
    expect(kills).toBe(4)
  })

  test('is kept when its owners hand it over in good order', async () => {
    await using fleet = new Fleet(server, { ...CRASHY, ...STEADY, maxCrashes: 0 })
    await fleet.add('stream')
    for (let round = 0; round < 4; round++) {
      const member = await fleet.join(`owner-${round}`)
      const stream = await member.given('stream')
      if (round % 2 === 0) await member.close()
      else {
        await member.release(stream)
        await member.close()
      }
    }
    const last = await fleet.join('last')
    expect(await last.given('stream')).toMatchObject({ recovered: true })
    expect(await fleet.state.lock('stream')).toMatchObject({ crashes: 0 })
    expect(await fleet.state.deadLetters()).toEqual([])
  })

  test('is kept when they held it for longer than the crash window', async () => {
    await using fleet = new Fleet(server, { ...CRASHY, maxCrashes: 0, crashWindowMs: 1 })
    await Promise.all(['a', 'b', 'c'].map((name) => fleet.spawn(name)))
    await fleet.add('stream')
    const kills = await killOwners(fleet, 'stream', async (count) => {
      if (count === 2) throw new Error('kept')
    }).catch((error: unknown) => (error as Error).message)
    expect(kills).toBe('kept')
  })
})
