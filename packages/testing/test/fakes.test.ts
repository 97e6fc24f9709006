/** An application's loop, driven by a test without Redis. */
import { type OwnedStream, type RedisStreamClient, StreamClientError } from '@redis-stream-client/client'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { FakeNotifications, FakeStream } from '@redis-stream-client/testing'
import { describe, expect, test } from 'vitest'

/** What an application writes around its work. */
async function serve(
  client: Pick<RedisStreamClient, 'init' | 'claim'>,
  work: (stream: OwnedStream) => Promise<void>,
): Promise<string> {
  let reason = ''
  const begin = (stream: OwnedStream): void => void work(stream).catch(() => undefined)
  for await (const notification of await client.init()) {
    if (notification.type === 'StreamAdded') begin(notification.stream)
    if (notification.type === 'StreamExpired') client.claim(notification.payload).then(begin, () => undefined)
    if (notification.type === 'StreamTerminated') reason = notification.reason
  }
  return reason
}

describe('FakeNotifications', () => {
  test('drive a loop through streams that are added, claimed and handed over', async () => {
    const client = new FakeNotifications()
    const served = serve(client, async (stream) => {
      for (let n = Number(stream.checkpoint ?? 0) + 1; n <= 3; n++) await stream.commit(String(n))
      if (stream.additionalInfo['short'] === true) return await stream.done()
      await new Promise((resolve) => stream.signal.addEventListener('abort', resolve))
      await stream.release()
    })
    const short = client.add('short', { additionalInfo: { short: true } })
    const long = client.add('long')
    const left = client.expire('left', { checkpoint: '2', previousOwner: 'redis-consumer-b' })
    await eventually(
      'all are worked on',
      () => [long.commits, left.commits],
      ([one, other]) => one?.length === 3 && other?.length === 1,
    )
    expect(short.endedBy).toBe('done')
    expect([...client.owned.keys()].sort()).toEqual(['left', 'long'])
    await client.close()
    expect([long.endedBy, left.endedBy]).toEqual(['release', 'release'])
    expect(await served).toBe('closed')
  })

  test('refuse a claim that another client was faster with', async () => {
    const client = new FakeNotifications()
    const stream = client.expire('s')
    client.takeAway(stream)
    await expect(client.claim(stream)).rejects.toMatchObject({ code: 'ALREADY_CLAIMED' })
    expect(client.owned.size).toBe(0)
  })

  test('say nothing of a stream that was lost before anybody read of it', async () => {
    await using client = new FakeNotifications()
    client.disown(client.add('unread'))
    const read = client.add('read')
    const notifications = client[Symbol.asyncIterator]()
    expect((await notifications.next()).value).toMatchObject({ type: 'StreamAdded', stream: read })
    client.disown(read, 'no-progress')
    client.disown(read, 'taken-over')
    client.terminate('retries-exhausted', new Error('Redis is away'))
    expect((await notifications.next()).value).toMatchObject({
      type: 'StreamDisowned',
      reason: 'no-progress',
    })
    expect((await notifications.next()).value).toMatchObject({
      type: 'StreamTerminated',
      reason: 'retries-exhausted',
      error: new Error('Redis is away'),
    })
    expect((await notifications.next()).done).toBe(true)
  })

  test('disown the stream of a name that is given anew', async () => {
    await using client = new FakeNotifications()
    const first = client.add('s')
    const second = client.add('s')
    expect(first.endedBy).toBe('taken-over')
    expect(second.fencingToken).toBeGreaterThan(first.fencingToken)
    expect(client.owned.get('s')).toBe(second)
  })

  test('are over with all streams when the block that uses them ends', async () => {
    let stream: FakeStream
    let client: FakeNotifications
    {
      await using used = new FakeNotifications()
      client = used
      stream = used.add('s')
    }
    expect(stream.owned).toBe(false)
    await expect(client.init()).rejects.toMatchObject({ code: 'CLOSED' })
  })
})

describe('FakeStream', () => {
  test('keeps what was committed, for the next owner too', async () => {
    const stream = new FakeStream('s', { checkpoint: '1' })
    expect(stream.checkpoint).toBe('1')
    await Promise.all([stream.commit('2'), stream.commit('3')])
    expect(stream.commits).toEqual(['2', '3'])
    expect(stream.storedCheckpoint).toBe('3')
    expect(stream.checkpoint).toBe('1')
  })

  test.each([
    [undefined, null],
    [{ keepCheckpoint: true }, '1'],
  ])('is done with %j, after which the checkpoint is %j', async (options, kept) => {
    const stream = new FakeStream('s')
    await stream.commit('1')
    await stream.done(options)
    await stream.ended()
    expect(stream.endedBy).toBe('done')
    expect(stream.storedCheckpoint).toBe(kept)
  })

  test('fails the next call that it was told to fail, and no other', async () => {
    const stream = new FakeStream('s')
    const error = new Error('the network')
    stream.failNext('commit')
    stream.failNext('release', error)
    await expect(stream.commit('1')).rejects.toMatchObject({ code: 'REDIS_ERROR' })
    expect(stream.storedCheckpoint).toBeNull()
    await stream.commit('1')
    await expect(stream.release()).rejects.toBe(error)
    expect(stream.owned).toBe(true)
    await stream.release()
    expect(stream.owned).toBe(false)
  })

  test('asks its owner to stop while it is still owned', () => {
    const stream = new FakeStream('s')
    expect(stream.hasSignal).toBe(false)
    const { signal } = stream
    expect(stream.hasSignal).toBe(true)
    stream.askToStop('REBALANCING')
    expect(signal.reason).toBeInstanceOf(StreamClientError)
    expect(signal.reason).toMatchObject({ code: 'REBALANCING' })
    expect(stream.owned).toBe(true)
  })

  test('refuses a commit during which it was lost, and stores nothing', async () => {
    const stream = new FakeStream('s')
    const commit = stream.commit('1')
    stream.disown('entry-gone')
    await expect(commit).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
    expect(stream.commits).toEqual([])
    await stream.ended()
  })

  test('counts how often its owner says that it goes on, and shows itself as JSON like the client’s', () => {
    const stream = new FakeStream('s', { idInLbs: '5-0', fencingToken: 9, additionalInfo: { a: 1 } })
    stream.touch()
    stream.touch()
    expect(stream.touches).toBe(2)
    expect(JSON.parse(JSON.stringify(stream))).toEqual({
      dataStreamName: 's',
      idInLbs: '5-0',
      additionalInfo: { a: 1 },
      fencingToken: 9,
      checkpoint: null,
      recovered: false,
      owned: true,
    })
  })
})
