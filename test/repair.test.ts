/** Hands in Redis: somebody deletes, trims or destroys what the clients rely on while they run. */
import { isDeepStrictEqual } from 'node:util'
import type { OwnedStream } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { RedisServer } from './src/support/redis-server.js'

const FAST = { heartbeatTtlMs: 1500, lbsIdleTimeMs: 3000, probeIntervalMs: 200, claimStaggerMs: 50 } as const

vi.setConfig({ testTimeout: 60_000 })

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

describe.concurrent('when the group is destroyed', () => {
  test('owners keep their streams, nobody gets them twice, and reading goes on', async () => {
    await using fleet = new Fleet(server, { ...FAST, heartbeatTtlMs: 5000, lbsIdleTimeMs: 10_000 })
    await Promise.all(['a', 'b', 'c'].map((name) => fleet.join(name)))
    const names = Array.from({ length: 30 }, (_, index) => `stream-${index}`)
    await fleet.addAll(names)
    await fleet.allOwned(names)
    const before = await fleet.state.locks()
    await fleet.redis.xgroup('DESTROY', fleet.state.lbsKey, fleet.state.group)
    await fleet.addAll(['new-0', 'new-1', 'new-2'])
    await fleet.allOwned(['new-0', 'new-1', 'new-2'])
    await eventually(
      'all entries are pending under their owners again',
      async () => {
        const consumers = await fleet.state.consumers()
        const pending = consumers.flatMap(({ clientId, pending: count }) =>
          count > 0 ? [[clientId, count]] : [],
        )
        return [Object.fromEntries(pending), await fleet.state.shares()]
      },
      ([pending, shares]) => isDeepStrictEqual(pending, shares),
    )
    expect(await fleet.state.locks()).toMatchObject(before)
    for (const member of fleet.members) expect(member.of('StreamDisowned')).toEqual([])
    await Promise.all(fleet.holdings().map(({ owner, stream }) => owner.done(stream)))
    await fleet.allDone()
  })

  test('a stream whose owner is killed then is taken over all the same', async () => {
    await using fleet = new Fleet(server, FAST)
    const owner = await fleet.spawn('owner')
    await fleet.add('stream')
    const held = await owner.given('stream')
    await owner.call({ call: 'commit', fence: held.fencingToken, checkpoint: 'so far' })
    await fleet.join('survivor')
    await fleet.redis.xgroup('DESTROY', fleet.state.lbsKey, fleet.state.group)
    await owner.kill()
    const survivor = fleet.members[0] as (typeof fleet.members)[number]
    expect(await survivor.given('stream', held.fencingToken)).toMatchObject({
      checkpoint: 'so far',
      recovered: true,
    })
  })

  test('done, commit and claim work on', async () => {
    await using fleet = new Fleet(server, FAST)
    const member = await fleet.join('only')
    await fleet.addAll(['one', 'two'])
    const [one, two] = [await member.given('one'), await member.given('two')]
    await fleet.redis.xgroup('DESTROY', fleet.state.lbsKey, fleet.state.group)
    await one.commit('x')
    expect(await member.claim(two)).toBe(two)
    await Promise.all([member.done(one), member.done(two)])
    await eventually('nothing is left', async () => (await fleet.state.lbsIds()).length === 0)
    await fleet.add('three')
    await member.given('three')
  })
})

describe.concurrent('when the LBS is deleted', () => {
  test('owners are told at the next look, what waited is served, and reading goes on', async () => {
    await using fleet = new Fleet(server, FAST)
    const member = await fleet.join('only')
    await fleet.add('stream', { n: 1 })
    const first = await member.given('stream')
    await fleet.add('stream', { n: 2 })
    await eventually('the second waits', () => fleet.state.backlog('stream'))
    await fleet.redis.del(fleet.state.lbsKey)
    expect(await member.next('StreamDisowned', 'stream')).toMatchObject({ reason: 'entry-gone' })
    expect(first.owned).toBe(false)
    expect(first.signal.reason).toMatchObject({ code: 'STREAM_NOT_OWNED' })
    await expect(first.commit('x')).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
    const second = await member.given('stream', first.fencingToken)
    expect(second).toMatchObject({ additionalInfo: { n: 2 }, recovered: false, checkpoint: null })
    await member.done(second)
    await fleet.add('other')
    await member.done(await member.given('other'))
    await fleet.allDone()
  })
})

describe.concurrent('when an entry is deleted', () => {
  test.each([
    ['by XDEL', async ({ redis, state }: Fleet, id: string) => void (await redis.xdel(state.lbsKey, id))],
    ['by XTRIM', async ({ redis, state }: Fleet) => void (await redis.xtrim(state.lbsKey, 'MAXLEN', 0))],
  ] as const)(
    '%s, its owner is told at the next look and the next of the stream is served',
    async (_, remove) => {
      await using fleet = new Fleet(server, FAST)
      await Promise.all(['a', 'b'].map((name) => fleet.join(name)))
      const id = await fleet.add('stream', { n: 1 })
      await eventually('it is owned', () => fleet.holdings().length === 1)
      const { owner, stream } = fleet.holdings()[0] as ReturnType<typeof fleet.holdings>[number]
      await stream.commit('of the first')
      await fleet.add('stream', { n: 2 })
      await eventually('the second waits', () => fleet.state.backlog('stream'))
      await remove(fleet, id)
      expect(await owner.next('StreamDisowned', 'stream')).toMatchObject({
        reason: 'entry-gone',
        payload: { idInLbs: id },
      })
      await eventually('somebody has the second', () => fleet.holdings().length === 1)
      const next = fleet.holdings()[0] as typeof fleet extends never
        ? never
        : ReturnType<typeof fleet.holdings>[number]
      expect(next.stream).toMatchObject({ additionalInfo: { n: 2 }, checkpoint: null, recovered: false })
      await next.owner.done(next.stream)
      await fleet.allDone()
    },
  )

  test('that a dead client held, its stream is freed and the next is served', async () => {
    await using fleet = new Fleet(server, FAST)
    const owner = await fleet.spawn('owner')
    const id = await fleet.add('stream', { n: 1 })
    await owner.given('stream')
    await fleet.add('stream', { n: 2 })
    await eventually('the second waits', () => fleet.state.backlog('stream'))
    await owner.kill()
    await fleet.redis.xdel(fleet.state.lbsKey, id)
    const heir = await fleet.join('heir')
    expect(await heir.given('stream', 0, 15_000)).toMatchObject({ additionalInfo: { n: 2 } })
    await heir.done(heir.streams[0] as OwnedStream)
    await fleet.allDone()
  })

  test('done by its owner in that moment resolves', async () => {
    await using fleet = new Fleet(server, { ...FAST, lbsIdleTimeMs: 40_000 })
    const member = await fleet.join('only')
    const id = await fleet.add('stream')
    const stream = await member.given('stream')
    await fleet.redis.xdel(fleet.state.lbsKey, id)
    await member.done(stream)
    await fleet.allDone()
    expect(member.of('StreamDisowned')).toEqual([])
  })
})

describe.concurrent('when a lock record is deleted', () => {
  test('its owner is told, may change nothing, and the stream is served again', async () => {
    await using fleet = new Fleet(server, FAST)
    await Promise.all(['a', 'b'].map((name) => fleet.join(name)))
    await fleet.add('stream')
    await eventually('it is owned', () => fleet.holdings().length === 1)
    const { owner, stream } = fleet.holdings()[0] as ReturnType<typeof fleet.holdings>[number]
    await fleet.redis.hdel(`${fleet.service}-locks`, 'stream')
    await expect(stream.commit('x')).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
    expect(await owner.next('StreamDisowned', 'stream')).toMatchObject({ reason: 'taken-over' })
    await eventually('it is owned again', () => fleet.holdings().some(({ stream: each }) => each.owned))
    await Promise.all(fleet.holdings().map((each) => each.owner.done(each.stream)))
    await fleet.allDone()
  })
})

describe.concurrent('when memory is full', () => {
  test('owners keep their session, finish what they can, and commit when there is room again', async () => {
    await using own = await RedisServer.start()
    await using fleet = new Fleet(own, FAST)
    const beats: string[] = []
    const member = await fleet.join('only', { metrics: { heartbeat: ({ outcome }) => beats.push(outcome) } })
    await fleet.addAll(['one', 'two'])
    const [one, two] = [await member.given('one'), await member.given('two')]
    await fleet.redis.config('SET', 'maxmemory', '1')
    await member.done(one)
    const commit = two.commit('late')
    const before = beats.length
    await eventually('two TTLs of heartbeats', () => beats.length - before >= 8, Boolean, {
      timeoutMs: 10_000,
    })
    expect(beats.slice(before)).not.toContain('lost')
    expect(two.owned).toBe(true)
    expect(await fleet.state.checkpoint('two')).toBeNull()
    await fleet.redis.config('SET', 'maxmemory', '0')
    await commit
    expect(await fleet.state.checkpoint('two')).toBe('late')
    expect(member.errors).toEqual([])
  })
})

describe.concurrent('when scripts are flushed', () => {
  test('every operation loads its script again', async () => {
    await using own = await RedisServer.start()
    await using fleet = new Fleet(own, { ...FAST, heartbeatTtlMs: 2000, lbsIdleTimeMs: 4000 })
    const member = await fleet.join('only')
    for (const step of ['take', 'commit', 'release', 'claim', 'done'] as const) {
      await own.client().script('FLUSH')
      if (step === 'take') await fleet.add('stream').then(() => member.given('stream'))
      const stream = member.stream('stream') as OwnedStream
      if (step === 'commit') await stream.commit('x')
      if (step === 'release') await member.release(stream)
      if (step === 'claim') expect(await member.claim(stream)).toMatchObject({ checkpoint: 'x' })
      if (step === 'done') await member.done(stream)
    }
    await fleet.allDone()
    expect(member.errors).toEqual([])
  })
})

describe.concurrent('an entry that was read and left', () => {
  test('in the name of a living client is served by it at its next look', async () => {
    await using fleet = new Fleet(server, FAST)
    const { redis, state } = fleet
    const member = await fleet.join('only', { maxOwnedStreams: 1 })
    await fleet.add('first')
    const first = await member.given('first')
    const id = await fleet.add('second')
    const consumer = member.client.health().consumer ?? ''
    await redis.xreadgroup('GROUP', state.group, consumer, 'COUNT', 9, 'STREAMS', state.lbsKey, '>')
    await member.done(first)
    expect(await member.given('second')).toMatchObject({ idInLbs: id, recovered: false })
    expect(member.errors).toEqual([])
  })

  test('by one long dead is claimed at the start, without asking', async () => {
    await using fleet = new Fleet(server, FAST)
    const { redis, state } = fleet
    const names = Array.from({ length: 30 }, (_, index) => `stream-${index}`)
    await fleet.addAll(names)
    await redis.xgroup('CREATE', state.lbsKey, state.group, '0')
    await redis.xreadgroup(
      'GROUP',
      state.group,
      'redis-consumer-gone:x',
      'COUNT',
      99,
      'STREAMS',
      state.lbsKey,
      '>',
    )
    await eventually('they have idled', async () => {
      const rows = (await redis.xpending(state.lbsKey, state.group, '-', '+', 99)) as [
        string,
        string,
        number,
      ][]
      return rows.length === 30 && rows.every(([, , idleMs]) => idleMs >= FAST.lbsIdleTimeMs)
    })
    const taken: number[] = []
    const member = await fleet.join('late', {
      onExpired: 'ignore',
      lbsRecoveryCount: 10,
      metrics: { startupRecovery: (event) => taken.push(event.taken) },
    })
    await eventually('all were added', () => member.of('StreamAdded').length === 30)
    expect(member.of('StreamAdded').every(({ recovered }) => recovered)).toBe(true)
    await eventually('the recovery was measured', () => taken.reduce((sum, each) => sum + each) === 30)
  })
})

describe.concurrent('housekeeping', () => {
  test('removes consumers that died with nothing pending, and no others', async () => {
    await using fleet = new Fleet(server, { ...FAST, consumerRetentionMs: 1500 })
    const { redis, state } = fleet
    const watcher = await fleet.join('watcher', { onExpired: 'ignore', maxOwnedStreams: 1 })
    await fleet.add('of the watcher')
    await watcher.given('of the watcher')
    const loaded = await fleet.spawn('dead-with-work')
    await fleet.add('stream')
    await loaded.given('stream')
    await loaded.kill()
    for (const name of ['dead-0', 'dead-1', 'dead-2']) {
      const consumer = `redis-consumer-${name}:crashed`
      expect(await redis.xgroup('CREATECONSUMER', state.lbsKey, state.group, consumer)).toBe(1)
    }
    const names = async (): Promise<string[]> =>
      (await state.consumers()).map(({ clientId }) => clientId).sort()
    await eventually(
      'the dead without work are gone',
      names,
      (found) =>
        !found.some((name) => name.includes('dead-0') || name.includes('dead-1') || name.includes('dead-2')),
      { timeoutMs: 15_000 },
    )
    expect(await names()).toEqual(['redis-consumer-dead-with-work', 'redis-consumer-watcher'])
    // Its entry is still there to be claimed.
    const rows = (await redis.xpending(state.lbsKey, state.group, '-', '+', 10)) as unknown[]
    expect(rows).toHaveLength(2)
    const heir = await fleet.join('heir')
    expect(await heir.given('stream')).toMatchObject({ recovered: true })
    await eventually(
      'the consumer whose work was taken over is gone too',
      names,
      (found) => !found.includes('redis-consumer-dead-with-work'),
      { timeoutMs: 15_000 },
    )
    expect(await names()).toEqual(['redis-consumer-heir', 'redis-consumer-watcher'])
  })
})
