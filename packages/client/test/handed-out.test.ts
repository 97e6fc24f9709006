/** What the client hands to an application: it can be looked at and written as JSON, and not be changed. */
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type ClientOptions,
  LbsProducer,
  type Notification,
  type OwnedStream,
  RedisStreamClient,
} from '../src/index.js'
import { ReadOnlyMap } from '../src/ownership/read-only-map.js'

const INFO = { unit: 'C', limits: [{ from: 1 }] }
const waiting = { timeout: 10_000, interval: 10 }
const written = (value: unknown): Record<string, unknown> =>
  JSON.parse(JSON.stringify(value)) as Record<string, unknown>

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(() => server[Symbol.asyncDispose]())

interface Running extends AsyncDisposable {
  readonly client: RedisStreamClient
  readonly heard: Notification[]
}

async function start(service: string, consumerId: string, options: ClientOptions = {}): Promise<Running> {
  const logger = pino({ level: 'silent' })
  const settings = { logger, heartbeatTtlMs: 1000, closeTimeoutMs: 500, ...options }
  const client = new RedisStreamClient(server.client(), service, { consumerId, ...settings })
  const heard: Notification[] = []
  const broker = await client.init()
  void (async () => {
    for await (const notification of broker) heard.push(notification)
  })()
  return { client, heard, [Symbol.asyncDispose]: () => client.close() }
}

async function owned({ client }: Running, name: string): Promise<OwnedStream> {
  await expect.poll(() => client.owned.has(name), waiting).toBe(true)
  return client.owned.get(name) as OwnedStream
}

/** Every object that can be reached from this one by its fields. */
function reachable(value: unknown, found: Set<object> = new Set()): Set<object> {
  if (typeof value !== 'object' || value === null || found.has(value)) return found
  found.add(value)
  for (const field of Object.values(value)) reachable(field, found)
  return found
}

describe('an application cannot change', () => {
  it('the map of owned streams, which always shows the present ones', async () => {
    await using running = await start('view', 'a')
    const { owned: view } = running.client
    await new LbsProducer(server.client(), 'view').add('s', INFO)
    const stream = await owned(running, 's')
    expect(view).toBe(running.client.owned)
    const map = view as unknown as Map<string, OwnedStream>
    expect(() => map.delete('s')).toThrow(TypeError)
    expect(() => map.clear()).toThrow(TypeError)
    expect(() => Map.prototype.delete.call(map, 's')).toThrow(TypeError)
    expect(() => Object.assign(map, { get: () => undefined })).toThrow(TypeError)
    expect([...view]).toEqual([['s', stream]])
    expect([view.size, [...view.keys()], [...view.values()], [...view.entries()]]).toEqual([
      1,
      ['s'],
      [stream],
      [['s', stream]],
    ])
    view.forEach((value, key, map) => {
      expect([key, value, map]).toEqual(['s', stream, view])
      expect(map).toBe(view)
    })
    await stream.done()
    expect(view.size).toBe(0)
  })

  it('a stream, a notification, or anything they hold', async () => {
    await using first = await start('frozen', 'a')
    await new LbsProducer(server.client(), 'frozen').add('s', INFO)
    const stream = await owned(first, 's')
    await using second = await start('frozen', 'b', { claimMode: 'manual' })
    await stream.release()
    await expect.poll(() => second.heard.map(({ type }) => type), waiting).toContain('StreamExpired')
    await second.client.close()
    await first.client.close()
    const values = [stream, ...first.heard, ...second.heard]
    expect(new Set(second.heard.map(({ type }) => type))).toEqual(
      new Set(['StreamExpired', 'StreamTerminated']),
    )
    for (const value of values) {
      for (const each of [...reachable(value), ...reachable((value as OwnedStream).additionalInfo)]) {
        expect(Object.isFrozen(each), JSON.stringify(each)).toBe(true)
      }
    }
    expect(() => Object.assign(stream, { fencingToken: 1 })).toThrow(TypeError)
    expect(() => Object.assign(stream, { owned: true })).toThrow(TypeError)
    expect(() => Object.assign(stream.additionalInfo, { unit: 'F' })).toThrow(TypeError)
    expect(() => Object.assign(first.client, { id: 'another' })).toThrow(TypeError)
  })

  it('what others see of an entry that went to the dead letters', async () => {
    await using running = await start('letters', 'a')
    const letters: object[] = []
    running.client.on('deadLetter', (letter) => letters.push(letter))
    await server.client().xadd('letters-input', '*', 'lbs-input', 'no JSON')
    await expect.poll(() => letters.length, waiting).toBe(1)
    expect(Object.isFrozen(letters[0])).toBe(true)
    expect(written(letters[0])).toMatchObject({ dataStreamName: null, reason: 'malformed' })
    expect(written(letters[0])['error']).toMatch(/LBS message invalid/)
  })
})

describe('as JSON', () => {
  it('health says whether there is a limit, in a field that is never null', async () => {
    await using unlimited = await start('health', 'a')
    await using limited = await start('health', 'b', { maxOwnedStreams: 7 })
    expect(unlimited.client.health().capacity).toBe(Number.POSITIVE_INFINITY)
    expect(written(unlimited.client.health())['capacity']).toBe('Infinity')
    expect(written(limited.client.health())['capacity']).toBe(7)
  })

  it('health, a stream and every notification have the fields they have in the program', async () => {
    await using running = await start('json', 'a')
    await new LbsProducer(server.client(), 'json').add('s', INFO)
    const stream = await owned(running, 's')
    await stream.commit('5-0')
    expect(written(stream)).toEqual({
      dataStreamName: 's',
      idInLbs: stream.idInLbs,
      additionalInfo: INFO,
      fencingToken: stream.fencingToken,
      checkpoint: null,
      recovered: false,
      owned: true,
    })
    const health = running.client.health()
    expect(Object.keys(written(health))).toEqual(Object.keys(health))
    await server.client().hdel('json-locks', 's')
    await expect(stream.commit('6-0')).rejects.toThrow(/not owned/)
    await running.client.close()
    expect(running.heard.map(({ type }) => type)).toEqual([
      'StreamAdded',
      'StreamDisowned',
      'StreamTerminated',
    ])
    const [added, disowned] = running.heard.map(written)
    expect(added).toMatchObject({ payload: { dataStreamName: 's' }, additionalInfo: INFO, recovered: false })
    expect(disowned).toMatchObject({ additionalInfo: INFO, reason: 'taken-over' })
  })

  it('a client that gave up says why', async () => {
    await using running = await start('giving-up', 'a', { retry: { maxRetries: 0 } })
    const redis = server.client()
    await redis.set('giving-up-input', 'something else')
    await expect.poll(() => running.heard.at(-1)?.type, waiting).toBe('StreamTerminated')
    expect(written(running.heard.at(-1))).toMatchObject({
      reason: 'retries-exhausted',
      error: {
        name: 'StreamClientError',
        code: 'REDIS_ERROR',
        // Which of them depends on what the reader is doing at that moment.
        cause: { message: expect.stringMatching(/WRONGTYPE|NOGROUP|UNBLOCKED/) },
      },
    })
  })
})

it('a read-only map is called with the context it is given', () => {
  const context = {}
  const seen: unknown[] = []
  new ReadOnlyMap(new Map([['a', 1]])).forEach(function (this: unknown) {
    seen.push(this)
  }, context)
  expect(seen).toEqual([context])
})
