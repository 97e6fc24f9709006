/** A data stream that is added more than once: served one after the other, in the order of the entries. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ConsumerProcess, WorkNote } from './src/support/consumer-process.js'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import type { Member } from './src/support/member.js'
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

/** Adds a data stream again and again, numbered from `first` on; resolves with the ids. */
async function addTimes(fleet: Fleet, name: string, first: number, times: number): Promise<string[]> {
  const ids: string[] = []
  for (let n = first; n < first + times; n++) ids.push(await fleet.add(name, { n }))
  return ids
}

async function backlogHas(fleet: Fleet, name: string, count: number): Promise<void> {
  await eventually(
    `${count} entries of ${name} wait`,
    () => fleet.state.backlog(name),
    (length) => length === count,
  )
}

describe.concurrent('a stream that is added again', () => {
  test('while it is owned waits until its owner is done', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    await fleet.add('stream', { n: 1 })
    const first = await member.given('stream')
    await fleet.add('stream', { n: 2 })
    await backlogHas(fleet, 'stream', 1)
    await fleet.add('neighbour')
    await member.given('neighbour')
    expect(member.streams.map(({ dataStreamName }) => dataStreamName)).toEqual(['stream', 'neighbour'])
    await first.commit('of the first')
    await member.done(first)
    const second = await member.given('stream', first.fencingToken)
    expect(second).toMatchObject({ additionalInfo: { n: 2 }, recovered: false, checkpoint: null })
    expect(first.owned).toBe(false)
    await expect(first.commit('too late')).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
    await member.done(second)
    await member.done(member.stream('neighbour') as typeof first)
    await fleet.allDone()
  })

  test('after it was done is served afresh', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    for (let n = 0, fence = 0; n < 5; n++) {
      await fleet.add('stream', { n })
      const stream = await member.given('stream', fence)
      expect(stream).toMatchObject({ additionalInfo: { n }, recovered: false, checkpoint: null })
      await stream.commit(`of ${n}`)
      await member.done(stream)
      fence = stream.fencingToken
    }
    await fleet.allDone()
  })

  test('finds the checkpoint of the one before if that was kept', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    await addTimes(fleet, 'stream', 0, 1)
    const first = await member.given('stream')
    await addTimes(fleet, 'stream', 1, 1)
    await backlogHas(fleet, 'stream', 1)
    await first.commit('go on here')
    fleet.witness.leave(first)
    await first.done({ keepCheckpoint: true })
    const second = await member.given('stream', first.fencingToken)
    expect(second.checkpoint).toBe('go on here')
    await member.done(second)
    await fleet.allDone()
  })

  test('keeps all its fields while it waits, byte by byte', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    await fleet.add('stream')
    const first = await member.given('stream')
    const message = '{"DataStreamName":"stream","Info":{"big":1234567890123456,"deep":[[{}]]}}'
    const bytes = Buffer.from([0, 1, 9, 10, 34, 47, 92, 127, 128, 255, 0xc3, 0x28])
    await fleet.redis.xadd(
      fleet.state.lbsKey,
      '*',
      'trace',
      bytes,
      'lbs-input',
      message,
      'empty',
      '',
      bytes,
      'x',
    )
    await backlogHas(fleet, 'stream', 1)
    await member.done(first)
    const second = await member.given('stream', first.fencingToken)
    const [entry] = await fleet.redis.xrangeBuffer(fleet.state.lbsKey, second.idInLbs, second.idInLbs)
    const fields = [Buffer.from('trace'), bytes, Buffer.from('lbs-input'), Buffer.from(message)]
    expect(entry?.[1]).toEqual([...fields, Buffer.from('empty'), Buffer.from(''), bytes, Buffer.from('x')])
  })

  test('a hundred times is served in order by whoever is there', async () => {
    await using fleet = new Fleet(server, STEADY)
    const first = await fleet.join('first')
    await fleet.add('stream', { n: 0 })
    const held = await first.given('stream')
    const finish = async (stream: typeof held, member: Member): Promise<void> => await member.done(stream)
    await Promise.all(['second', 'third'].map((name) => fleet.join(name, { onStream: finish })))
    await addTimes(fleet, 'stream', 1, 100)
    await backlogHas(fleet, 'stream', 100)
    // The first has one of its own to hold, then takes no part.
    await first.done(held)
    await eventually('the first holds one or all is done', async () => {
      const stream = first.stream('stream')
      if (stream?.owned) await first.done(stream)
      return (await fleet.state.leftovers()).entries === 0
    })
    const served = fleet.members
      .flatMap(({ streams }) => streams)
      .sort((a, b) => a.fencingToken - b.fencingToken)
      .map(({ additionalInfo }) => additionalInfo['n'])
    expect(served).toEqual(Array.from({ length: 101 }, (_, n) => n))
    await fleet.allDone()
  })

  test('before anybody was there is served as often as it was added', async () => {
    await using fleet = new Fleet(server, STEADY)
    await Promise.all([addTimes(fleet, 'a', 0, 30), addTimes(fleet, 'b', 0, 30)])
    const member = await fleet.join('only', { onStream: async (stream, self) => await self.done(stream) })
    await fleet.allDone()
    for (const name of ['a', 'b']) {
      const served = member.streams.filter(({ dataStreamName }) => dataStreamName === name)
      expect(served.map(({ additionalInfo }) => additionalInfo['n']).sort(byNumber)).toEqual(
        Array.from({ length: 30 }, (_, n) => n),
      )
    }
  })

  test('by many producers, with many others, is served that often by four clients', async () => {
    await using fleet = new Fleet(server, {
      ...STEADY,
      onStream: async (stream, member) => await member.done(stream),
    })
    await Promise.all(['a', 'b', 'c', 'd'].map((name) => fleet.join(name)))
    const names = Array.from({ length: 20 }, (_, index) => `stream-${index}`)
    await Promise.all(names.map((name) => addTimes(fleet, name, 0, 20)))
    await fleet.allDone()
    const served = fleet.members.flatMap(({ streams }) => streams)
    expect(served).toHaveLength(400)
    for (const name of names) {
      const order = served
        .filter(({ dataStreamName }) => dataStreamName === name)
        .map(({ additionalInfo }) => additionalInfo['n'])
      expect(order.sort(byNumber)).toEqual(Array.from({ length: 20 }, (_, n) => n))
    }
    expect(fleet.members.flatMap(({ failures }) => failures)).toEqual([])
  })

  test('goes on in order with those that wait, when its owner is killed', async () => {
    await using fleet = new Fleet(server, STEADY)
    const owner = await fleet.spawn('owner', { client: FAST })
    await fleet.add('stream', { n: 0 })
    await owner.given('stream')
    await addTimes(fleet, 'stream', 1, 3)
    await backlogHas(fleet, 'stream', 3)
    await owner.kill()
    const heir = await fleet.join('heir')
    for (let n = 0, fence = 0; n <= 3; n++) {
      const stream = await heir.given('stream', fence)
      expect(stream).toMatchObject({ additionalInfo: { n }, recovered: n === 0 })
      await heir.done(stream)
      fence = stream.fencingToken
    }
    await fleet.allDone()
  })

  test('is in the order of the entries again, when one that was read late comes to the waiting ones', async () => {
    await using fleet = new Fleet(server, STEADY)
    const member = await fleet.join('only')
    await fleet.add('stream', { n: 0 })
    const held = await member.given('stream')
    // Read by a client that died before it did anything with it.
    await member.close()
    const late = await fleet.add('stream', { n: 1 })
    const { redis, state } = fleet
    await redis.xreadgroup(
      'GROUP',
      state.group,
      'redis-consumer-gone:x',
      'COUNT',
      10,
      'STREAMS',
      state.lbsKey,
      '>',
    )
    await addTimes(fleet, 'stream', 2, 2)
    const heir = await fleet.join('heir', { onExpired: 'ignore' })
    const offers = [await heir.next('StreamExpired', 'stream'), await heir.next('StreamExpired', 'stream')]
    expect(offers.map(({ payload }) => payload.idInLbs).sort()).toEqual([held.idInLbs, late])
    const again = await heir.claim(held)
    await backlogHas(fleet, 'stream', 2)
    // Claiming one that has to wait puts it among the others.
    await expect(heir.claim({ dataStreamName: 'stream', idInLbs: late })).rejects.toMatchObject({
      code: 'ALREADY_CLAIMED',
    })
    await backlogHas(fleet, 'stream', 3)
    for (let n = 0, stream = again; n <= 3; n++) {
      expect(stream.additionalInfo).toEqual({ n })
      await heir.done(stream)
      if (n < 3) stream = await heir.given('stream', stream.fencingToken)
    }
    await fleet.allDone()
  })
})

describe.concurrent('with owners that are killed in between, a stream added many times', () => {
  const STEPS = 4

  test('is served one entry after the other, each step by the owner of the moment', async () => {
    await using fleet = new Fleet(server, FAST)
    const work = { notesPrefix: `${fleet.service}-notes`, steps: STEPS, stepMs: 15 }
    let spawned = 0
    const spawn = (): Promise<ConsumerProcess> => fleet.spawn(`worker-${++spawned}`, { work })
    const holder = await fleet.join('holder', STEADY)
    await fleet.add('stream', { n: 0 })
    const held = await holder.given('stream')
    const workers = await Promise.all(Array.from({ length: 6 }, spawn))
    await addTimes(fleet, 'stream', 1, 24)
    await backlogHas(fleet, 'stream', 24)
    await holder.release(held)
    await holder.close()
    for (let kills = 0; kills < 4; kills++) {
      const victim = await eventually('a worker owns the stream', async () => {
        const ownerId = (await fleet.state.lock('stream'))?.owner
        return workers.find((worker) => worker.clientId === ownerId)
      })
      await victim?.kill()
      workers.splice(workers.indexOf(victim as ConsumerProcess), 1)
    }
    await addTimes(fleet, 'stream', 25, 5)
    await fleet.allDone(25_000)
    await expectServedInOrder(fleet, work.notesPrefix, 30)
  })

  test('is served that often, whenever they are killed', async () => {
    await using fleet = new Fleet(server, FAST)
    const work = { notesPrefix: `${fleet.service}-notes`, steps: STEPS, stepMs: 5 }
    let spawned = 0
    const spawn = (): Promise<ConsumerProcess> => fleet.spawn(`worker-${++spawned}`, { work })
    const workers = await Promise.all([spawn(), spawn(), spawn()])
    for (let round = 0; round < 4; round++) {
      const adding = addTimes(fleet, 'stream', 10 * round, 10)
      await workers[round % workers.length]?.kill()
      workers.splice(round % workers.length, 1, await spawn())
      await adding
    }
    await fleet.allDone(25_000)
    const notes = await readNotes(fleet, work.notesPrefix)
    expectOneAtATime(notes)
    expect(new Set(notes.map(({ n }) => n)).size).toBe(40)
  })

  async function readNotes({ redis }: Fleet, prefix: string): Promise<WorkNote[]> {
    return (await redis.lrange(`${prefix}:stream`, 0, -1)).map((text) => JSON.parse(text) as WorkNote)
  }

  /** Fences never step back; whoever takes an entry over goes on where the last owner has committed. */
  function expectOneAtATime(notes: readonly WorkNote[]): void {
    for (const [index, note] of notes.entries()) {
      const before = notes[index - 1]
      if (before === undefined) continue
      expect(note.fence).toBeGreaterThanOrEqual(before.fence)
      if (note.n === before.n) {
        // The step before was noted; it is done again if its owner died before it could commit.
        expect(note.step).toBeGreaterThanOrEqual(before.step)
        expect(note.step).toBeLessThanOrEqual(before.step + 1)
      } else {
        expect([before.step, note.step]).toEqual([STEPS - 1, 0])
        expect(note.fence).toBeGreaterThan(before.fence)
      }
    }
  }

  async function expectServedInOrder(fleet: Fleet, prefix: string, count: number): Promise<void> {
    const notes = await readNotes(fleet, prefix)
    expectOneAtATime(notes)
    const order = notes.map(({ n }) => n).filter((n, index, all) => n !== all[index - 1])
    expect(order).toEqual(Array.from({ length: count }, (_, n) => n))
  }
})

function byNumber(a: unknown, b: unknown): number {
  return Number(a) - Number(b)
}
