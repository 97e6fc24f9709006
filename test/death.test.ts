/** Owners that die, hang, or stall: who takes over, how soon, and what the former owner may still do. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type {
  ConsumerOptions,
  ConsumerProcess,
  StreamLine,
  WorkNote,
} from './src/support/consumer-process.js'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { RedisServer } from './src/support/redis-server.js'

const TTL_MS = 800
/** Sessions of clients that are to die. */
const FAST = { heartbeatTtlMs: TTL_MS, lbsIdleTimeMs: 4000, claimStaggerMs: 50 } as const
/** Sessions that hold on a busy machine, and look for the dead as often. */
const STEADY = { ...FAST, heartbeatTtlMs: 4000, lbsIdleTimeMs: 8000, probeIntervalMs: TTL_MS / 4 } as const
/** TTL and two probe intervals, and a lot for a machine that is busy with other tests. */
const DETECTION_MS = TTL_MS + 2 * (TTL_MS / 4) + 2000

// Processes take their time to start on a busy machine.
vi.setConfig({ testTimeout: 60_000 })

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

/** A client in a process of its own that owns `stream`, with a checkpoint. */
async function spawnOwner(
  fleet: Fleet,
  client: ConsumerOptions = FAST,
): Promise<{ owner: ConsumerProcess; held: StreamLine }> {
  const owner = await fleet.spawn('owner', { client })
  await fleet.add('stream', { of: 'all' })
  const held = await owner.given('stream')
  expect(
    await owner.call({ call: 'commit', fence: held.fencingToken, checkpoint: 'half way' }),
  ).toMatchObject({
    ok: true,
  })
  return { owner, held }
}

describe.concurrent.each(['manual', 'auto'] as const)('in %s mode a survivor', (claimMode) => {
  test('takes over from the checkpoint of an owner that was killed', async () => {
    await using fleet = new Fleet(server, { ...STEADY, claimMode })
    const { owner, held } = await spawnOwner(fleet)
    const survivor = await fleet.join('survivor')
    await owner.kill()
    const killedAt = performance.now()
    const stream = await survivor.given('stream')
    expect(performance.now() - killedAt).toBeLessThan(DETECTION_MS)
    expect(stream.fencingToken).toBeGreaterThan(held.fencingToken)
    expect(stream).toMatchObject({
      idInLbs: held.idInLbs,
      checkpoint: 'half way',
      recovered: true,
      owned: true,
      additionalInfo: { of: 'all' },
    })
    const told = survivor.notifications.map(({ type }) => type)
    expect(told).toEqual(claimMode === 'auto' ? ['StreamAdded'] : ['StreamExpired'])
    if (claimMode === 'manual') {
      expect(survivor.of('StreamExpired')[0]).toMatchObject({
        payload: { dataStreamName: 'stream', idInLbs: held.idInLbs },
        additionalInfo: { of: 'all' },
        previousOwner: owner.clientId,
      })
    }
    await survivor.done(stream)
    await fleet.allDone()
  })

  test('takes over from an owner that is stopped; awake again, it is disowned and can change nothing', async () => {
    await using fleet = new Fleet(server, { ...STEADY, claimMode })
    const { owner, held } = await spawnOwner(fleet)
    const survivor = await fleet.join('survivor')
    owner.pause()
    const pausedAt = performance.now()
    const stream = await survivor.given('stream')
    expect(performance.now() - pausedAt).toBeLessThan(DETECTION_MS)
    await stream.commit('taken over')
    owner.resume()
    await expectDisowned(owner, held)
    await expectPowerless(fleet, owner, held)
    expect(stream.owned).toBe(true)
    expect(await fleet.state.checkpoint('stream')).toBe('taken over')
    expect(await fleet.state.lock('stream')).toMatchObject({
      owner: 'redis-consumer-survivor',
      fencingToken: stream.fencingToken,
    })
  })

  test('takes over from an owner whose event loop stalls for longer than the TTL', async () => {
    await using fleet = new Fleet(server, { ...STEADY, claimMode })
    const { owner, held } = await spawnOwner(fleet)
    const survivor = await fleet.join('survivor')
    await owner.call({ call: 'stall', ms: 2.5 * TTL_MS })
    const stream = await survivor.given('stream')
    expect(stream.fencingToken).toBeGreaterThan(held.fencingToken)
    await expectDisowned(owner, held)
    await expectPowerless(fleet, owner, held)
    expect(stream.owned).toBe(true)
  })

  test('leaves alone an owner whose event loop stalls for less than the TTL', async () => {
    await using fleet = new Fleet(server, { ...STEADY, claimMode })
    const { owner, held } = await spawnOwner(fleet, STEADY)
    const survivor = await fleet.join('survivor')
    await owner.call({ call: 'stall', ms: 1000 })
    expect(
      await owner.call({ call: 'commit', fence: held.fencingToken, checkpoint: 'on time' }),
    ).toMatchObject({
      ok: true,
    })
    expect(await owner.call({ call: 'look', fence: held.fencingToken })).toMatchObject({
      owned: true,
      aborted: false,
    })
    expect(survivor.notifications).toEqual([])
    expect(await owner.call({ call: 'done', fence: held.fencingToken })).toMatchObject({ ok: true })
    await fleet.allDone()
  })
})

describe.concurrent('after the death of an owner of many streams', () => {
  test.each(['manual', 'auto'] as const)('the survivors share them, in %s mode', async (claimMode) => {
    await using fleet = new Fleet(server, { ...STEADY, claimMode, claimStaggerMs: 500 })
    const owner = await fleet.spawn('owner', { client: FAST })
    const streams = Array.from({ length: 300 }, (_, index) => `stream-${index}`)
    await fleet.addAll(streams)
    await fleet.allOwned(streams)
    await Promise.all(['a', 'b', 'c'].map((name) => fleet.join(name)))
    await fleet.allReading()
    await owner.kill()
    await eventually(
      'the survivors own all',
      () => fleet.holdings().length,
      (owned) => owned === streams.length,
      { timeoutMs: 3 * DETECTION_MS },
    )
    const shares = fleet.members.map((member) => member.owned.length)
    expect(Math.min(...shares)).toBeGreaterThan(50)
    const told = fleet.members.flatMap((member) => member.of('StreamExpired')).length
    if (claimMode === 'manual') expect(told).toBeLessThan(1.5 * streams.length)
  })

  test('nobody takes what the dead held for longer than its capacity allows', async () => {
    await using fleet = new Fleet(server, { ...STEADY, claimMode: 'auto' })
    const dying = await Promise.all(['x', 'y', 'z'].map((name) => fleet.spawn(name, { client: FAST })))
    const streams = Array.from({ length: 60 }, (_, index) => `stream-${index}`)
    await fleet.addAll(streams)
    await fleet.allOwned(streams)
    const small = await fleet.join('small', { maxOwnedStreams: 7 })
    let most = 0
    const watch = setInterval(() => {
      most = Math.max(most, small.client.owned.size)
    }, 1)
    await Promise.all(dying.map((owner) => owner.kill()))
    await eventually('it is full', () => small.owned.length === 7)
    // One stream after the other: what is left is taken up as room appears.
    const served = new Set<string>()
    await eventually(
      'all have been served',
      async () => {
        expect(small.client.owned.size).toBeLessThanOrEqual(7)
        const [stream] = small.client.owned.values()
        if (stream !== undefined) {
          served.add(stream.dataStreamName)
          await small.done(stream)
        }
        return served.size
      },
      (count) => count === streams.length,
      { timeoutMs: 20_000 },
    )
    clearInterval(watch)
    expect(most).toBeLessThanOrEqual(7)
    await fleet.allDone()
  })

  test.each(['manual', 'auto'] as const)(
    'a newcomer keeps to its limit, with three of the dead and new entries to serve at once, in %s mode',
    async (claimMode) => {
      await using fleet = new Fleet(server, { ...STEADY, claimMode })
      const dying = await Promise.all(['x', 'y', 'z'].map((name) => fleet.spawn(name, { client: FAST })))
      const streams = Array.from({ length: 60 }, (_, index) => `stream-${index}`)
      await fleet.addAll(streams)
      await fleet.allOwned(streams)
      await Promise.all(dying.map((owner) => owner.kill()))
      await fleet.addAll(Array.from({ length: 20 }, (_, index) => `new-${index}`))
      await eventually('the sessions of the dead are over', async () =>
        (await fleet.state.consumers()).every(({ isAlive }) => !isAlive),
      )
      let most = 0
      const small = fleet.make('small', {
        maxOwnedStreams: 7,
        // Nothing may be left until it is stranded: there is room again after a few milliseconds.
        lbsIdleTimeMs: 40_000,
        metrics: {
          streamStarted: () => {
            most = Math.max(most, small.client.owned.size)
          },
        },
        onStream: async (stream, member) => {
          await sleep(20)
          await member.done(stream)
        },
      })
      await small.init()
      await fleet.allDone(25_000)
      expect(most).toBeLessThanOrEqual(7)
      // It is not told of more than it can take, to be refused and told again.
      expect(small.of('StreamExpired').length).toBeLessThanOrEqual(1.5 * streams.length)
      expect(small.failures).toEqual([])
    },
  )

  test('one after the other, fences grow and the checkpoint goes on', async () => {
    await using fleet = new Fleet(server, FAST)
    await fleet.add('stream')
    let last: StreamLine | undefined
    for (const name of ['first', 'second', 'third', 'fourth']) {
      const owner = await fleet.spawn(name)
      const held = await owner.given('stream')
      expect(held.checkpoint).toBe(last === undefined ? null : `by ${last.fencingToken}`)
      expect(held.fencingToken).toBeGreaterThan(last?.fencingToken ?? 0)
      await owner.call({
        call: 'commit',
        fence: held.fencingToken,
        checkpoint: `by ${held.fencingToken}`,
      })
      last = held
      await owner.kill()
    }
  })
})

describe.concurrent('workers that are stopped and continued at random', () => {
  test('never write beside each other, and finish', async () => {
    await using fleet = new Fleet(server, { ...FAST, claimMode: 'auto' })
    const work = { notesPrefix: `${fleet.service}-notes`, steps: 100, stepMs: 40 }
    const workers = await Promise.all(['a', 'b', 'c', 'd'].map((name) => fleet.spawn(name, { work })))
    const streams = Array.from({ length: 12 }, (_, index) => `stream-${index}`)
    // One by one they go to whoever has waited longest: each has some when its turn to be stopped comes.
    for (const name of streams) {
      await fleet.add(name)
      await fleet.allOwned([name])
    }
    for (let round = 0; round < 8; round++) {
      const worker = workers[round % workers.length]
      worker?.pause()
      // Sometimes shorter than the TTL, sometimes longer.
      await sleep(round % 2 === 0 ? 1.8 * TTL_MS : 0.4 * TTL_MS)
      worker?.resume()
    }
    await fleet.allDone(30_000)
    let owners = 0
    for (const name of streams) {
      const lines = await fleet.redis.lrange(`${work.notesPrefix}:${name}`, 0, -1)
      const notes = lines.map((line) => JSON.parse(line) as WorkNote)
      expect(notes.map(({ fence }) => fence)).toEqual(notes.map(({ fence }) => fence).sort((a, b) => a - b))
      // Each goes on where the last checkpoint was: at most the last step is done again.
      for (const [index, { step }] of notes.entries()) {
        expect(step - (notes[index - 1]?.step ?? -1)).toBeLessThanOrEqual(1)
        expect(step - (notes[index - 1]?.step ?? -1)).toBeGreaterThanOrEqual(0)
      }
      expect(notes.at(-1)?.step).toBe(work.steps - 1)
      owners += new Set(notes.map(({ fence }) => fence)).size
    }
    expect(owners).toBeGreaterThan(streams.length)
  })
})

async function expectDisowned(owner: ConsumerProcess, held: StreamLine): Promise<void> {
  const { dataStreamName, idInLbs, fencingToken } = held
  expect(await owner.told('StreamDisowned', dataStreamName)).toMatchObject({
    dataStreamName,
    idInLbs,
    reason: 'session-lost',
  })
  expect(await owner.told('aborted', dataStreamName)).toMatchObject({ fencingToken, code: 'SESSION_LOST' })
}

/** A former owner is refused everything, and nothing in Redis changes by trying. */
async function expectPowerless(fleet: Fleet, owner: ConsumerProcess, held: StreamLine): Promise<void> {
  const { fencingToken: fence } = held
  expect(await owner.call({ call: 'look', fence })).toMatchObject({ owned: false, aborted: true })
  const before = await snapshot(fleet)
  for (const command of [
    { call: 'commit', fence, checkpoint: 'too late' },
    { call: 'release', fence },
    { call: 'done', fence },
  ] as const) {
    const answer = await owner.call(command)
    expect(answer).toMatchObject({ ok: false })
    expect(['SESSION_LOST', 'STREAM_NOT_OWNED']).toContain(answer['code'])
  }
  expect(await snapshot(fleet)).toEqual(before)
}

async function snapshot({ state }: Fleet): Promise<unknown> {
  return [await state.locks(), await state.lbsIds(), await state.checkpoint('stream')]
}
