/** A Redis server that goes away and comes back: with its data, late, or empty. */
import type { OwnedStream } from '@redis-stream-client/client'
import { describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import type { Member } from './src/support/member.js'
import { RedisServer, type RestartOptions } from './src/support/redis-server.js'

const SHORT = { heartbeatTtlMs: 1000, lbsIdleTimeMs: 2000, claimStaggerMs: 50 } as const
/** A restart takes a fraction of this. */
const LONG = { heartbeatTtlMs: 8000, lbsIdleTimeMs: 16_000, claimStaggerMs: 50 } as const

vi.setConfig({ testTimeout: 60_000 })

/** Two clients that own a stream each, with a checkpoint. */
async function ownTwo(fleet: Fleet): Promise<{ members: Member[]; streams: OwnedStream[] }> {
  const members = await Promise.all(['a', 'b'].map((name) => fleet.join(name, { maxOwnedStreams: 1 })))
  await fleet.addAll(['stream-0', 'stream-1'])
  await fleet.allOwned(['stream-0', 'stream-1'])
  await eventually(
    'both were told',
    () => fleet.holdings().length === 2 && members.every((each) => each.streams[0]),
  )
  const streams = members.map((member) => member.streams[0] as OwnedStream)
  await Promise.all(streams.map((stream) => stream.commit('before')))
  return { members, streams }
}

describe.concurrent('after a restart with its data', () => {
  test.each([
    ['in good order', {}],
    ['after a crash', { crash: true }],
  ] as [string, RestartOptions][])(
    '%s and soon, owners keep their session and their streams',
    async (_, how) => {
      await using server = await RedisServer.start({ persistence: 'aof' })
      await using fleet = new Fleet(server, LONG)
      const { members, streams } = await ownTwo(fleet)
      await server.restart(how)
      await Promise.all(streams.map((stream) => stream.commit('after')))
      for (const [index, member] of members.entries()) {
        expect(streams[index]?.owned).toBe(true)
        expect(member.of('StreamDisowned')).toEqual([])
        expect(member.client.health().session).toBe('held')
      }
      await Promise.all(members.map((member, index) => member.done(streams[index] as OwnedStream)))
      await fleet.allDone()
      await fleet.add('next')
      await fleet.allOwned(['next'])
    },
  )

  test('that comes too late, owners have stopped on time and go on from the checkpoint', async () => {
    await using server = await RedisServer.start({ persistence: 'aof' })
    await using fleet = new Fleet(server, SHORT)
    const { members, streams } = await ownTwo(fleet)
    const startMs = performance.now()
    await server.kill()
    for (const member of members) {
      expect(await member.next('StreamDisowned')).toMatchObject({ reason: 'session-lost' })
    }
    expect(performance.now() - startMs).toBeLessThan(SHORT.heartbeatTtlMs + 2000)
    for (const stream of streams) {
      expect(stream.owned).toBe(false)
      await expect(stream.commit('too late')).rejects.toMatchObject({ code: 'SESSION_LOST' })
    }
    await server.startAgain()
    await fleet.allOwned(['stream-0', 'stream-1'])
    await eventually(
      'both are held again',
      () => fleet.holdings().filter(({ stream }) => stream.owned).length === 2,
    )
    for (const { stream } of fleet.holdings()) {
      expect(stream).toMatchObject({ checkpoint: 'before', recovered: true })
    }
  })

  test('again and again under load, nothing is lost', async () => {
    await using server = await RedisServer.start({ persistence: 'aof' })
    await using fleet = new Fleet(server, {
      ...SHORT,
      onStream: async (stream, member) => {
        await stream.commit('under way')
        await member.done(stream)
      },
    })
    await Promise.all(['a', 'b', 'c'].map((name) => fleet.join(name)))
    const added = new Set<string>()
    for (let round = 0; round < 8; round++) {
      const adding = Promise.allSettled(
        Array.from({ length: 50 }, async (_, index) =>
          added.add(await fleet.add(`stream-${50 * (round % 2) + index}`)),
        ),
      )
      await server.restart({ crash: round % 2 === 0 })
      await adding
    }
    await fleet.allDone(20_000)
    const served = new Set(fleet.members.flatMap(({ streams }) => streams.map(({ idInLbs }) => idInLbs)))
    // More may have been added than the producer was told; entries that waited have got new ids.
    expect(served.size).toBeGreaterThanOrEqual(added.size)
    for (const { failures } of fleet.members) {
      for (const failure of failures)
        expect(failure).toMatchObject({
          code: expect.stringMatching(/SESSION_LOST|STREAM_NOT_OWNED/) as string,
        })
    }
  })
})

describe.concurrent('after a restart without its data', () => {
  test.each([
    ['restarted empty', (server: RedisServer): Promise<unknown> => server.restart({ data: 'empty' })],
    ['emptied by FLUSHALL', (server: RedisServer): Promise<unknown> => server.client().flushall()],
  ] as const)(
    '%s, owners lose their streams, the group is made anew and reading goes on',
    async (_, empty) => {
      await using server = await RedisServer.start()
      await using fleet = new Fleet(server, LONG)
      const { members, streams } = await ownTwo(fleet)
      await empty(server)
      for (const [index, member] of members.entries()) {
        expect(await member.next('StreamDisowned')).toMatchObject({ reason: 'session-lost' })
        expect(streams[index]?.owned).toBe(false)
      }
      await fleet.addAll(['stream-0', 'stream-2'])
      await fleet.allOwned(['stream-0', 'stream-2'])
      await eventually('both are held', () => fleet.holdings().length === 2)
      // The witness of the fleet sees that fences have grown over the loss.
      const again = fleet.holdings().map(({ stream }) => stream)
      for (const stream of again)
        expect(stream).toMatchObject({ checkpoint: null, recovered: false, owned: true })
      await Promise.all(fleet.holdings().map(({ owner, stream }) => owner.done(stream)))
      await fleet.allDone()
    },
  )

  test('restarted with an older snapshot, a stream comes back to its owner under a fence above all before', async () => {
    await using server = await RedisServer.start({ persistence: 'rdb' })
    await using fleet = new Fleet(server, LONG)
    const member = await fleet.join('only')
    await fleet.add('stream')
    const first = await member.given('stream')
    await fleet.redis.save()
    await member.done(first)
    await fleet.add('stream')
    const second = await member.given('stream', first.fencingToken)
    await member.done(second)
    await server.restart({ crash: true })
    const again = await member.given('stream', second.fencingToken)
    expect(again).toMatchObject({ idInLbs: first.idInLbs, owned: true })
    expect(member.of('StreamDisowned')).toEqual([])
    await member.done(again)
    await fleet.allDone()
  })

  test('a producer that was first does not lose its entries to a group that begins at the end', async () => {
    await using server = await RedisServer.start()
    await using fleet = new Fleet(server, SHORT)
    const member = await fleet.join('only')
    await fleet.allReading()
    const pipeline = fleet.redis.multi().flushall()
    for (let n = 0; n < 5; n++) {
      pipeline.xadd(fleet.state.lbsKey, '*', 'lbs-input', JSON.stringify({ DataStreamName: `stream-${n}` }))
    }
    await pipeline.exec()
    for (let n = 0; n < 5; n++) await member.given(`stream-${n}`)
  })
})
