/** Leaving: done, close and abort, in any state, within bounded time, with everything handed over. */
import type { Notification, OwnedStream, TerminationReason } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import type { Member } from './src/support/member.js'
import { RedisServer } from './src/support/redis-server.js'

/** So long that whatever happens quickly does not happen because a session has expired. */
const LASTING = {
  heartbeatTtlMs: 20_000,
  lbsIdleTimeMs: 40_000,
  claimStaggerMs: 20,
  closeTimeoutMs: 3000,
} as const
/** What a busy machine may add to a deadline. */
const SLACK_MS = 3000

vi.setConfig({ testTimeout: 60_000 })

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

type Way = 'close' | 'done' | 'abort'
const WAYS: readonly { way: Way; reason: TerminationReason }[] = [
  { way: 'close', reason: 'closed' },
  { way: 'done', reason: 'done' },
  { way: 'abort', reason: 'aborted' },
]

/** Leaves, and resolves when the client has closed. */
async function leave(member: Member, way: Way, controller: AbortController): Promise<void> {
  if (way === 'abort') controller.abort()
  else await member.client[way]()
  await member.broker.closed
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now()
  await act()
  return performance.now() - startMs
}

async function drain(member: Member): Promise<Notification[]> {
  const rest: Notification[] = []
  for await (const notification of member.broker) rest.push(notification)
  return rest
}

describe.concurrent.each(WAYS)('$way', ({ way, reason }) => {
  test('says StreamTerminated once, after what was queued, and ends the iterator', async () => {
    await using fleet = new Fleet(server, LASTING)
    const controller = new AbortController()
    const member = await fleet.join('only', { reads: false, signal: controller.signal })
    await fleet.addAll(['one', 'two'])
    await eventually('both are owned', () => member.owned.length === 2)
    await leave(member, way, controller)
    const told = await drain(member)
    expect(told.map(({ type }) => type)).toEqual(['StreamAdded', 'StreamAdded', 'StreamTerminated'])
    const last = told.at(-1)
    expect(last).toMatchObject({ type: 'StreamTerminated', reason })
    expect(typeof last?.additionalInfo['info']).toBe('string')
    expect(member.owned).toEqual([])
    expect(member.client.health()).toMatchObject({ session: 'closed', owned: 0, trustLeftMs: 0 })
  })

  test('returns in time, the iterator being unread, the queue full and a handler stuck', async () => {
    await using fleet = new Fleet(server, { ...LASTING, closeTimeoutMs: 500 })
    const controller = new AbortController()
    const member = await fleet.join('only', {
      reads: false,
      signal: controller.signal,
      notificationBufferSize: 2,
    })
    await fleet.addAll(['one', 'two', 'three', 'four', 'five'])
    await eventually('the queue is full', () => member.client.health().queueRoom === 0)
    // Somebody who has read the signal, and never listens to it.
    for (const stream of member.client.owned.values()) expect(stream.signal.aborted).toBe(false)
    expect(await timed(() => leave(member, way, controller))).toBeLessThan(500 + SLACK_MS)
    const heir = await fleet.join('heir')
    const left = way === 'done' ? 3 : 5
    await eventually('the heir has the rest', () => heir.owned.length >= left)
  })

  test('returns in time when the server is killed', async () => {
    await using doomed = await RedisServer.start()
    await using fleet = new Fleet(doomed, { ...LASTING, closeTimeoutMs: 1000 })
    const controller = new AbortController()
    const member = await fleet.join('only', { signal: controller.signal })
    await fleet.add('stream')
    const stream = await member.given('stream')
    expect(stream.signal.aborted).toBe(false)
    await doomed.kill()
    expect(await timed(() => leave(member, way, controller))).toBeLessThan(1000 + SLACK_MS)
    expect(stream.owned).toBe(false)
    expect(stream.signal.aborted).toBe(true)
    await member.ended
    expect(member.of('StreamTerminated')).toMatchObject([{ reason }])
  })

  test('returns in time when the server is frozen', async () => {
    await using frozen = await RedisServer.start()
    await using fleet = new Fleet(frozen, { ...LASTING, closeTimeoutMs: 1000 })
    const controller = new AbortController()
    const member = await fleet.join('only', {
      signal: controller.signal,
      heartbeatTtlMs: 2000,
      lbsIdleTimeMs: 4000,
    })
    await fleet.add('stream')
    const stream = await member.given('stream')
    frozen.pause()
    expect(await timed(() => leave(member, way, controller))).toBeLessThan(1000 + SLACK_MS)
    expect(stream.owned).toBe(false)
    await member.ended
    expect(member.of('StreamTerminated')).toMatchObject([{ reason }])
    frozen.resume()
  })

  test('leaves nothing behind that would keep the process alive', async () => {
    await using fleet = new Fleet(server, LASTING)
    const consumer = await fleet.spawn('leaver')
    await fleet.add('stream')
    await consumer.given('stream')
    consumer.send({ call: 'leave', way })
    expect(await consumer.told('StreamTerminated')).toMatchObject({ reason })
    expect(await consumer.program.exited).toEqual({ code: 0, signal: null })
  })
})

describe.concurrent('close', () => {
  test('twice, at once, and beside done and abort, is one: the first counts', async () => {
    await using fleet = new Fleet(server, LASTING)
    const controller = new AbortController()
    const member = await fleet.join('only', { signal: controller.signal })
    await fleet.add('stream')
    await member.given('stream')
    await Promise.all([member.close(), member.close(), member.client.done()])
    controller.abort()
    await Promise.all([member.client.done(), member.close(), member.client[Symbol.asyncDispose]()])
    await member.ended
    expect(member.of('StreamTerminated')).toMatchObject([{ reason: 'closed' }])
    // It has handed over, not finished.
    expect(await fleet.state.lbsIds()).toHaveLength(1)
  })

  test('hands over at once: another client goes on from the checkpoint, and no crash is counted', async () => {
    await using fleet = new Fleet(server, LASTING)
    const leaver = await fleet.join('leaver')
    const names = Array.from({ length: 100 }, (_, index) => `stream-${index}`)
    await fleet.addAll(names)
    await eventually('all are owned', () => leaver.owned.length === 100)
    await Promise.all(leaver.streams.map((stream) => stream.commit(`of ${stream.dataStreamName}`)))
    const heir = await fleet.join('heir')
    await fleet.allReading()
    const tookMs = await timed(async () => {
      await leaver.close()
      await eventually('the heir has all', () => heir.owned.length === 100)
    })
    expect(tookMs).toBeLessThan(SLACK_MS)
    for (const stream of heir.streams) {
      expect(stream).toMatchObject({ checkpoint: `of ${stream.dataStreamName}`, recovered: true })
    }
    for (const { previousOwner } of heir.of('StreamExpired')) expect(previousOwner).toBeNull()
    for (const { crashes } of Object.values(await fleet.state.locks())) expect(crashes).toBe(0)
    expect(leaver.of('StreamDisowned')).toEqual([])
  })

  test('waits for owners that read their signal: they still commit, then release or finish', async () => {
    await using fleet = new Fleet(server, LASTING)
    const heir = await fleet.join('heir', { maxOwnedStreams: 1 })
    await fleet.add('of the heir')
    await heir.given('of the heir')
    const atAbort: unknown[] = []
    const leaver = await fleet.join('leaver', {
      onStream: (stream, member) => {
        if (stream.dataStreamName === 'inattentive') return
        stream.signal.addEventListener('abort', () => {
          atAbort.push((stream.signal.reason as { code?: string }).code, stream.owned)
          void finishLate(stream, member)
        })
      },
    })
    await fleet.addAll(['released', 'finished', 'inattentive'])
    await eventually('all are owned', () => leaver.owned.length === 3)
    const tookMs = await timed(() => leaver.close())
    expect(atAbort).toEqual(['CLOSED', true, 'CLOSED', true])
    expect(tookMs).toBeGreaterThanOrEqual(200)
    expect(tookMs).toBeLessThan(LASTING.closeTimeoutMs)
    expect(await fleet.state.lock('finished')).toBeNull()
    expect(await fleet.state.checkpoint('released')).toBe('last words')
    expect(await fleet.state.locks()).toMatchObject({
      released: { owner: null },
      inattentive: { owner: null },
    })

    async function finishLate(stream: OwnedStream, member: Member): Promise<void> {
      await new Promise((resolve) => setTimeout(resolve, 200))
      await stream.commit('last words')
      if (stream.dataStreamName === 'finished') await member.done(stream)
      else await member.release(stream)
    }
  })

  test('gives the streams of an owner that never stops to others when its deadline is over', async () => {
    await using fleet = new Fleet(server, { ...LASTING, closeTimeoutMs: 500 })
    const leaver = await fleet.join('leaver', { onStream: (stream) => void stream.signal })
    await fleet.add('stream')
    const stream = await leaver.given('stream')
    const heir = await fleet.join('heir')
    await fleet.allReading()
    const tookMs = await timed(() => leaver.close())
    expect(tookMs).toBeGreaterThanOrEqual(450)
    expect(tookMs).toBeLessThan(500 + SLACK_MS)
    expect(stream.owned).toBe(false)
    await expect(stream.commit('too late')).rejects.toMatchObject({
      code: expect.stringMatching(/SESSION_LOST|STREAM_NOT_OWNED/) as string,
    })
    expect(await heir.given('stream')).toMatchObject({ recovered: true })
  })

  test('comes with await using', async () => {
    await using fleet = new Fleet(server, LASTING)
    const member = fleet.make('only')
    {
      await using client = member.client
      await member.init()
      await fleet.add('stream')
      await member.given('stream')
      expect(client.health().session).toBe('held')
    }
    expect(member.client.health().session).toBe('closed')
    await member.ended
    expect(member.of('StreamTerminated')).toMatchObject([{ reason: 'closed' }])
  })

  test('while new streams pour in takes none and loses none', async () => {
    await using fleet = new Fleet(server, LASTING)
    const leaver = await fleet.join('leaver')
    await fleet.allReading()
    const names = Array.from({ length: 300 }, (_, index) => `stream-${index}`)
    const adding = fleet.addAll(names)
    await eventually('it has begun', () => leaver.owned.length > 0)
    await leaver.close()
    expect(leaver.owned).toEqual([])
    await adding
    const heir = await fleet.join('heir')
    // It reads slowly at first.
    await eventually(
      'the heir has all',
      () => heir.owned.length,
      (count) => count === 300,
      { timeoutMs: 15_000 },
    )
  })

  test('of several clients at once hands over to those that stay', async () => {
    await using fleet = new Fleet(server, LASTING)
    await Promise.all(['a', 'b', 'c', 'd'].map((name) => fleet.join(name)))
    await fleet.allReading()
    const names = Array.from({ length: 100 }, (_, index) => `stream-${index}`)
    await fleet.addAll(names)
    await fleet.allOwned(names)
    const [stays, ...leave] = fleet.members
    await Promise.all(leave.map((member) => member.close()))
    await eventually('one has all', () => stays?.owned.length === 100)
  })
})

describe.concurrent('done', () => {
  test('finishes every owned stream', async () => {
    await using fleet = new Fleet(server, LASTING)
    const member = await fleet.join('only')
    const names = Array.from({ length: 120 }, (_, index) => `stream-${index}`)
    await fleet.addAll(names)
    await eventually('all are owned', () => member.owned.length === 120)
    for (const stream of member.streams) fleet.witness.leave(stream)
    await member.client.done()
    await fleet.allDone()
    await member.ended
    expect(member.of('StreamTerminated')).toMatchObject([{ reason: 'done' }])
  })

  test('frees the next of the same name for others', async () => {
    await using fleet = new Fleet(server, LASTING)
    const member = await fleet.join('first')
    await fleet.add('stream', { n: 1 })
    await member.given('stream')
    await fleet.add('stream', { n: 2 })
    await eventually('the second waits', () => fleet.state.backlog('stream'))
    const other = await fleet.join('other')
    await fleet.allReading()
    for (const stream of member.streams) fleet.witness.leave(stream)
    await member.client.done()
    // Recovered or not: a server may still hand it to the reader that has just hung up.
    expect(await other.given('stream')).toMatchObject({ additionalInfo: { n: 2 } })
  })

  test('of one stream by its name does the same, and is refused for a name that is not owned', async () => {
    await using fleet = new Fleet(server, LASTING)
    const member = await fleet.join('only')
    await fleet.add('stream')
    await member.given('stream')
    await member.client.doneStream('stream')
    await fleet.allDone()
    await expect(member.client.doneStream('stream')).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
    await member.close()
    await expect(member.client.doneStream('stream')).rejects.toMatchObject({ code: 'CLOSED' })
  })
})

describe.concurrent('init', () => {
  test.each(['close', 'done'] as const)('after %s is refused', async (way) => {
    await using fleet = new Fleet(server, LASTING)
    const member = fleet.make('only')
    await member.client[way]()
    await member.client[way]()
    await expect(member.init()).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('with a signal that is aborted is refused', async () => {
    await using fleet = new Fleet(server, LASTING)
    const member = fleet.make('only', { signal: AbortSignal.abort() })
    await expect(member.init()).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(member.init()).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('a second time is refused, and harms nothing', async () => {
    await using fleet = new Fleet(server, LASTING)
    const member = await fleet.join('only')
    await expect(member.client.init()).rejects.toMatchObject({ code: 'CLOSED' })
    await fleet.add('stream')
    await member.given('stream')
  })

  test.each(['close', 'done', 'abort'] as const)('is cut short by %s', async (way) => {
    await using frozen = await RedisServer.start()
    await using fleet = new Fleet(frozen, LASTING)
    const controller = new AbortController()
    const member = fleet.make('only', { signal: controller.signal })
    frozen.pause()
    const outcome = member.init().catch((error: unknown) => error)
    const tookMs = await timed(async () => {
      if (way === 'abort') controller.abort()
      else await member.client[way]()
      expect(await outcome).toMatchObject({ code: 'CLOSED' })
    })
    expect(tookMs).toBeLessThan(SLACK_MS)
    frozen.resume()
  })

  test('without a server ends with REDIS_ERROR', async () => {
    await using gone = await RedisServer.start()
    await using fleet = new Fleet(gone, LASTING)
    const member = fleet.make('only')
    await gone.kill()
    await expect(member.init()).rejects.toMatchObject({ code: 'REDIS_ERROR' })
    expect(member.client.health().session).toBe('closed')
  })
})

describe.concurrent('a reader that may not retry for ever', () => {
  test('gives up: StreamTerminated says why, and the streams go to others', async () => {
    // Redis 6.2 tells a read that blocks nothing of the key: it ends after a TTL.
    await using fleet = new Fleet(server, { ...LASTING, heartbeatTtlMs: 4000 })
    const limited = await fleet.join('limited', {
      retry: { maxRetries: 2, initialDelayMs: 10, maxDelayMs: 20 },
    })
    await fleet.add('stream')
    await limited.given('stream')
    const { redis, state } = fleet
    await redis.rename(state.lbsKey, 'aside')
    await redis.set(state.lbsKey, 'not a stream')
    const terminated = await limited.next('StreamTerminated')
    expect(terminated).toMatchObject({ reason: 'retries-exhausted', error: { code: 'REDIS_ERROR' } })
    await limited.ended
    await redis.rename('aside', state.lbsKey)
    const heir = await fleet.join('heir')
    expect(await heir.given('stream')).toMatchObject({ recovered: true })
  })
})
