/**
 * The fakes behave as the client does: one scenario is played with a client on a real server, and with the fakes. What an
 * application sees, calls and is answered has to be the same, word for word.
 */
import {
  type LbsInfo,
  LbsProducer,
  type Notification,
  type OwnedStream,
  RedisStreamClient,
} from '@redis-stream-client/client'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { FakeNotifications, type FakeStream, startRedis } from '@redis-stream-client/testing'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { expect, test } from 'vitest'

const SERVICE = 'orders'
const STREAM_OF_ANOTHER = 'left-by-another'

/** What an application can do, and what happens to it. */
interface Stage extends AsyncDisposable {
  readonly notifications: AsyncIterator<Notification, undefined>
  readonly client: Pick<RedisStreamClient, 'claim' | 'close' | 'owned'>
  /** Somebody adds a stream. */
  add(name: string): Promise<void>
  /** Another client, which had committed `at-7` in STREAM_OF_ANOTHER, leaves. */
  loseAnother(): Promise<void>
  /** Another client takes a stream over. */
  takeOver(stream: OwnedStream): Promise<void>
  loseSession(): Promise<void>
}

async function realStage(): Promise<Stage> {
  const server = await startRedis()
  const redis = new Redis(server.url)
  const producer = new LbsProducer(redis, SERVICE)
  const options = { logger: pino({ level: 'silent' }), heartbeatTtlMs: 4000, lbsIdleTimeMs: 8000 }
  const another = new RedisStreamClient(redis, SERVICE, {
    ...options,
    consumerId: 'another',
    maxOwnedStreams: 1, // all others are ours
  })
  const itsNotifications = (await another.init())[Symbol.asyncIterator]()
  await producer.add(STREAM_OF_ANOTHER, { region: 'eu' })
  const { value } = await itsNotifications.next()
  if (value?.type === 'StreamAdded') await value.stream.commit('at-7')
  const client = new RedisStreamClient(redis, SERVICE, { ...options, consumerId: 'test' })
  const notifications = (await client.init())[Symbol.asyncIterator]()
  return {
    notifications,
    client,
    add: async (name) => {
      await producer.add(name, { region: 'eu' })
    },
    loseAnother: () => another.close(),
    takeOver: async ({ dataStreamName }) => {
      await redis.hdel(`${SERVICE}-locks`, dataStreamName)
    },
    loseSession: async () => {
      const { consumer } = client.health()
      await redis.del(`${SERVICE}-heartbeat:${client.id}`)
      await eventually(
        'the client has another session',
        () => client.health(),
        (health) => health.session === 'held' && health.consumer !== consumer,
      )
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([client.close(), another.close()])
      redis.disconnect()
      await server.stop()
    },
  }
}

async function fakeStage(): Promise<Stage> {
  const fake = new FakeNotifications()
  const notifications = (await fake.init())[Symbol.asyncIterator]()
  const additionalInfo = { region: 'eu' }
  const isRefused = async (stream: OwnedStream): Promise<void> => {
    // The client finds out by a call that Redis refuses; with the fakes a test says when it finds out.
    fake.disown(stream as FakeStream, 'taken-over')
    await Promise.resolve()
  }
  return {
    notifications,
    client: fake,
    add: async (name) => {
      fake.add(name, { additionalInfo })
      await Promise.resolve()
    },
    loseAnother: async () => {
      fake.expire(STREAM_OF_ANOTHER, { additionalInfo, checkpoint: 'at-7' })
      await Promise.resolve()
    },
    takeOver: isRefused,
    loseSession: async () => {
      fake.loseSession()
      await Promise.resolve()
    },
    [Symbol.asyncDispose]: () => fake[Symbol.asyncDispose](),
  }
}

/** What an application that does all there is to do has seen. */
async function play(stage: Stage): Promise<string[]> {
  const seen: string[] = []
  const note = (line: string): void => void seen.push(line)

  /** The next notification of this kind about that stream; others of it are noted too. */
  async function next<T extends Notification['type']>(
    type: T,
    name: string,
  ): Promise<Extract<Notification, { type: T }>> {
    for (;;) {
      const { value } = await stage.notifications.next()
      if (value === undefined) throw new Error(`the notifications ended before ${type} ${name}`)
      if (value.type !== 'StreamTerminated' && value.payload.dataStreamName !== name) continue
      note(describeNotification(value))
      if (value.type === type) return value as Extract<Notification, { type: T }>
    }
  }

  async function given(name: string): Promise<OwnedStream> {
    await stage.add(name)
    const { payload, stream } = await next('StreamAdded', name)
    expect(payload).toEqual({ dataStreamName: stream.dataStreamName, idInLbs: stream.idInLbs })
    note(describe(stream))
    return stream
  }

  async function call(what: string, calling: Promise<unknown>): Promise<void> {
    note(`${what}: ${await calling.then(() => 'ok', codeOf)}`)
  }

  const finished = await given('finished')
  await call('commit', finished.commit('1'))
  await call('commit of a number', finished.commit(7 as never))
  await call('commit of too much', finished.commit('x'.repeat(70_000)))
  note(`signal: ${String(finished.signal.aborted)}`)
  finished.touch()
  note(`known: ${String(stage.client.owned.get('finished') === finished)}`)
  const finishing = finished.done({ keepCheckpoint: true })
  note(`owned once done was called: ${String(finished.owned)}`)
  await call('done', finishing)
  note(`known: ${String(stage.client.owned.has('finished'))}`)
  await call('done again', finished.done())
  await call('release', finished.release())
  await call('commit', finished.commit('2'))
  note(describe(finished))

  const released = await given('released')
  const calls = [released.commit('1'), released.release(), released.commit('2'), released.release()]
  for (const [index, calling] of calls.entries()) await call(`call ${index}`, calling)
  note(describe(released))
  note(`signal made afterwards: ${describeSignal(released.signal)}`)

  await stage.loseAnother()
  const { payload } = await next('StreamExpired', STREAM_OF_ANOTHER)
  const claims = [stage.client.claim(payload), stage.client.claim(payload)]
  const [claimed, again] = await Promise.allSettled(claims)
  if (claimed?.status !== 'fulfilled') throw new Error('not claimed', { cause: claimed })
  note(`claimed: ${describe(claimed.value)}`)
  note(`claimed twice: ${again?.status}`)
  note(`claimed again: ${String((await stage.client.claim(payload)) === claimed.value)}`)
  await call('claim of another name', stage.client.claim({ ...payload, dataStreamName: 'other' }))
  await call('claim of another entry', stage.client.claim({ ...payload, idInLbs: '1-1' }))
  await call('claim of nothing', stage.client.claim({ idInLbs: '1-1' } as LbsInfo))

  const taken = await given('taken')
  const { signal } = taken
  await stage.takeOver(taken)
  await call('commit', taken.commit('1'))
  await next('StreamDisowned', 'taken')
  note(`signal: ${describeSignal(signal)}`)
  note(describe(taken))

  const lost = await given('lost')
  const signalOfLost = lost.signal
  await stage.loseSession()
  await next('StreamDisowned', 'lost')
  note(`signal: ${describeSignal(signalOfLost)}`)
  for (const name of ['commit', 'done', 'release'] as const) await call(name, lost[name]('1' as never))
  note(describe(lost))

  const closing = await given('closing')
  const signalOfClosing = closing.signal
  const unread = await given('unread')
  const isClosed = stage.client.close()
  await eventually('the owner is asked', () => signalOfClosing.aborted)
  note(`signal: ${describeSignal(signalOfClosing)}`)
  note(`owned: ${String(closing.owned)}`)
  await call('commit', closing.commit('9'))
  await eventually('the other is given back', () => !unread.owned)
  await call('commit', unread.commit('9'))
  await call('release', closing.release())
  await isClosed
  await next('StreamTerminated', '')
  note(`the end: ${String((await stage.notifications.next()).done)}`)
  await call('claim', stage.client.claim(payload))
  return seen
}

function describe({ additionalInfo, checkpoint, fencingToken, owned, recovered }: OwnedStream): string {
  expect(fencingToken).toBeGreaterThan(0)
  return JSON.stringify({ additionalInfo, checkpoint, owned, recovered })
}

function describeNotification(notification: Notification): string {
  const fields = { ...notification, payload: undefined, stream: undefined, idInLbs: undefined }
  const info = notification.type === 'StreamTerminated' ? null : notification.additionalInfo
  return JSON.stringify({ ...fields, additionalInfo: info })
}

function describeSignal({ aborted, reason }: AbortSignal): string {
  return `${aborted} ${codeOf(reason)}`
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | undefined)?.code)
}

test('the fakes do what the client does', async () => {
  await using real = await realStage()
  await using fake = await fakeStage()
  const [withClient, withFakes] = [await play(real), await play(fake)]
  expect(withFakes).toEqual(withClient)
  expect(withClient).toContain('signal: true CLOSED')
})
