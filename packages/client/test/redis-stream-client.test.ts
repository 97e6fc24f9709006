/** Whole clients in one process, where the moment matters more than the process. */
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import {
  type ClientOptions,
  LbsProducer,
  type Notification,
  type NotificationBroker,
  type OwnedStream,
  RedisStreamClient,
} from '../src/index.js'

const logger = pino({ level: 'silent' })
const waiting = { timeout: 10_000, interval: 10 }

let server: RedisServer
let redis: Redis
const clients: RedisStreamClient[] = []
beforeAll(async () => {
  server = await RedisServer.start()
})
beforeEach(async () => {
  redis = server.client()
  await redis.flushall()
})
afterEach(() => Promise.all(clients.splice(0).map((client) => client.close())))
afterAll(() => server[Symbol.asyncDispose]())

function client(consumerId: string, options: ClientOptions = {}, connection = redis): RedisStreamClient {
  const made = new RedisStreamClient(connection, 'orders', {
    consumerId,
    logger,
    heartbeatTtlMs: 1000,
    closeTimeoutMs: 2000,
    ...options,
  })
  clients.push(made)
  return made
}

/** Collects what a broker delivers, as fast as it comes. */
function listen(
  broker: NotificationBroker,
  on: (notification: Notification) => void = () => undefined,
): Notification[] {
  const heard: Notification[] = []
  void (async () => {
    for await (const notification of broker) {
      heard.push(notification)
      on(notification)
    }
  })()
  return heard
}

async function add(count: number, name = 's'): Promise<void> {
  const producer = new LbsProducer(redis, 'orders')
  await Promise.all(Array.from({ length: count }, (_, index) => producer.add(`${name}${index}`)))
}

/** A caller's connection whose answers come late. */
async function slowly(delayMs: number): Promise<{ connection: Redis; proxy: TcpProxy }> {
  const proxy = await TcpProxy.listen({ port: server.port })
  proxy.delay(delayMs)
  return { connection: new Redis({ port: proxy.port, lazyConnect: true }), proxy }
}

describe('done', () => {
  it('finishes what the application was told of, and nothing it was not', async () => {
    const { connection, proxy } = await slowly(5)
    const told = new Set<string>()
    const first = client('a', {}, connection)
    listen(await first.init(), (each) => {
      if (each.type === 'StreamAdded') told.add(each.payload.dataStreamName)
    })
    const adding = add(300)
    await expect.poll(() => told.size, waiting).toBeGreaterThan(20)
    await Promise.all([first.done(), adding])
    const left = await redis.xlen('orders-input')
    expect(told.size + left).toBe(300)
    const second = client('b', { claimMode: 'auto' })
    const heard = listen(await second.init())
    await expect.poll(() => heard.length, waiting).toBe(left)
    await proxy[Symbol.asyncDispose]()
  })

  it('does not finish a stream whose claim it has made fail', async () => {
    for (let round = 0; round < 10; round++) {
      await redis.flushall()
      await add(1)
      const dead = client(`dead${round}`)
      const seen = listen(await dead.init())
      await expect.poll(() => seen.length, waiting).toBe(1)
      await dead.close()
      const survivor = client(`b${round}`)
      const heard = listen(await survivor.init())
      await expect.poll(() => heard.length, waiting).toBe(1)
      const [expired] = heard
      if (expired?.type !== 'StreamExpired') throw new Error('no StreamExpired')
      const claimed = survivor.claim(expired.payload).then(
        () => 'claimed',
        (error: { code: string }) => error.code,
      )
      if (round % 2 === 1) await new Promise((resolve) => setImmediate(resolve))
      await survivor.done()
      if ((await claimed) !== 'claimed') expect(await redis.xlen('orders-input')).toBe(1)
    }
  })
})

describe('a new session', () => {
  it('tells the application of a stream it takes back once only', async () => {
    const begun = new Map<OwnedStream, number>()
    const work = (stream: OwnedStream): void => {
      begun.set(stream, (begun.get(stream) ?? 0) + 1)
    }
    const makeClient = async (id: string): Promise<RedisStreamClient> => {
      const made = client(id, { heartbeatTtlMs: 500, lbsIdleTimeMs: 1000 })
      listen(await made.init(), (each) => {
        if (each.type === 'StreamAdded') work(each.stream)
        if (each.type === 'StreamExpired') made.claim(each.payload).then(work, () => undefined)
      })
      return made
    }
    const a = await makeClient('a')
    const b = await makeClient('b')
    await add(60)
    await expect.poll(() => a.owned.size + b.owned.size, waiting).toBe(60)
    for (let loss = 0; loss < 3; loss++) {
      await redis.set('orders-heartbeat:redis-consumer-a', 'somebody else', 'PX', 300)
      await expect.poll(() => a.health().session, waiting).not.toBe('held')
      await expect.poll(() => a.owned.size + b.owned.size, waiting).toBe(60)
      await expect.poll(() => a.health().session, waiting).toBe('held')
    }
    const owned = [...a.owned.values(), ...b.owned.values()]
    await expect.poll(() => owned.filter((stream) => begun.has(stream)).length, waiting).toBe(60)
    expect([...begun.values()].filter((times) => times > 1)).toEqual([])
  })
})

describe('close', () => {
  it('beside init leaves no session behind, and init rejects', async () => {
    const { connection, proxy } = await slowly(3)
    for (let pauseMs = 0; pauseMs < 60; pauseMs += 4) {
      const made = client('same', { heartbeatTtlMs: 60_000, lbsIdleTimeMs: 120_000 }, connection)
      const init = made.init().catch((error: { code: string }) => error.code)
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      await made.close()
      const result = await init
      if (typeof result === 'string') expect(result).toBe('CLOSED')
      expect(await redis.exists('orders-heartbeat:redis-consumer-same')).toBe(0)
    }
    await proxy[Symbol.asyncDispose]()
  })

  it('aborts a signal that is read for the first time while it waits', async () => {
    const a = client('a', { closeTimeoutMs: 5000 })
    const heard = listen(await a.init())
    await add(20)
    await expect.poll(() => heard.length, waiting).toBe(20)
    const [first, ...others] = [...a.owned.values()]
    const firstSignal = (first as OwnedStream).signal
    const closing = a.close()
    const reasons = others.map((stream) => {
      const { signal } = stream
      void stream.release().catch(() => undefined)
      return signal.aborted ? (signal.reason as { code: string }).code : 'not aborted'
    })
    await expect.poll(() => firstSignal.aborted, waiting).toBe(true)
    await (first as OwnedStream).release()
    await closing
    await new Promise((resolve) => setImmediate(resolve))
    expect(new Set(others.map((stream) => stream.signal.aborted))).toEqual(new Set([true]))
    expect(reasons.every((reason) => reason === 'CLOSED' || reason === 'not aborted')).toBe(true)
  })

  it('is what closing the broker means', async () => {
    const a = client('a')
    const broker = await a.init()
    broker.close()
    await expect.poll(() => redis.exists('orders-heartbeat:redis-consumer-a'), waiting).toBe(0)
    expect(a.health().session).toBe('closed')
  })
})

describe('a server that refuses PUBLISH', () => {
  it('keeps nobody from releasing, closing, or beginning a new session', async () => {
    await redis.call('ACL', 'SETUSER', 'quiet', 'on', '>secret', '~*', '+@all', '-publish', 'resetchannels')
    const quiet = new Redis({ port: server.port, username: 'quiet', password: 'secret', lazyConnect: true })
    const a = client('a', { heartbeatTtlMs: 500 }, quiet)
    const heard = listen(await a.init())
    await add(3)
    await expect.poll(() => a.owned.size, waiting).toBe(3)
    await (a.owned.get('s0') as OwnedStream).release()
    expect(a.owned.size).toBe(2)
    await redis.set('orders-heartbeat:redis-consumer-a', 'somebody else', 'PX', 100)
    await expect.poll(() => heard.filter((each) => each.type === 'StreamDisowned').length, waiting).toBe(2)
    await expect.poll(() => a.health().session, waiting).toBe('held')
    await a.close()
    expect(await redis.exists('orders-heartbeat:redis-consumer-a')).toBe(0)
    quiet.disconnect()
  })
})

describe('a server that answers nothing during init', () => {
  it('makes init reject with a coded error', async () => {
    const proxy = await TcpProxy.listen({ port: server.port })
    proxy.freeze()
    const frozen = client('a', {}, new Redis({ port: proxy.port, lazyConnect: true }))
    await expect(frozen.init()).rejects.toMatchObject({ code: 'REDIS_ERROR' })
    await proxy[Symbol.asyncDispose]()
  })

  it.each([200, 400])(
    'or answers too late by %d ms each way: the error names the option',
    async (delayMs) => {
      await using proxy = await TcpProxy.listen({ port: server.port })
      proxy.delay(delayMs)
      const slow = client('a', { heartbeatTtlMs: 1000 }, new Redis({ port: proxy.port, lazyConnect: true }))
      await expect(slow.init()).rejects.toMatchObject({
        code: 'REDIS_ERROR',
        message: expect.stringMatching(/\d ms.* heartbeatTtlMs/),
      })
    },
  )

  it('and one whose LBS key is something else does so too', async () => {
    await redis.set('orders-input', 'text')
    await expect(client('a').init()).rejects.toMatchObject({
      code: 'REDIS_ERROR',
      message: expect.stringContaining('WRONGTYPE'),
    })
    expect(await redis.exists('orders-heartbeat:redis-consumer-a')).toBe(0)
  })
})

describe('a client', () => {
  it('beside clients of another protocol is refused with a code', async () => {
    await redis.set('orders-protocol', '0')
    await expect(client('a').init()).rejects.toMatchObject({ code: 'PROTOCOL_MISMATCH', protocol: '0' })
    expect(await redis.exists('orders-heartbeat:redis-consumer-a')).toBe(0)
    await redis.del('orders-protocol')
  })
})

describe('retries of the reader', () => {
  it('are exhausted: the client says why, closes, and its streams go to others', async () => {
    await add(1)
    const a = client('a', { retry: { maxRetries: 0 } })
    const errors: Error[] = []
    a.on('error', (error) => errors.push(error))
    const heard = listen(await a.init())
    await expect.poll(() => a.owned.size, waiting).toBe(1)
    await redis.del('orders-input')
    await redis.set('orders-input', 'text')
    await expect.poll(() => heard.at(-1)?.type, waiting).toBe('StreamTerminated')
    expect(heard.at(-1)).toMatchObject({ reason: 'retries-exhausted', error: { code: 'REDIS_ERROR' } })
    expect(errors).toHaveLength(1)
    expect(a.health()).toMatchObject({ session: 'closed', owned: 0, lastError: { code: 'REDIS_ERROR' } })
  })
})

describe('a claim of an entry that Redis refuses to serve', () => {
  it('does not say it is in the dead letters while a living client has it', async () => {
    await add(1)
    await redis.xgroup('CREATE', 'orders-input', 'orders-group', '0')
    await redis.set('orders-heartbeat:redis-consumer-x', 'token', 'PX', 60_000)
    const reply = (await redis.xreadgroup(
      'GROUP',
      'orders-group',
      'redis-consumer-x:token',
      'STREAMS',
      'orders-input',
      '>',
    )) as [string, [string, string[]][]][]
    const idInLbs = reply[0]?.[1][0]?.[0] as string
    await redis.hset('orders-locks', 's0', 'rubbish')
    const a = client('a')
    listen(await a.init())
    await expect(a.claim({ dataStreamName: 's0', idInLbs })).rejects.toMatchObject({
      code: 'ALREADY_CLAIMED',
    })
    expect(await redis.exists('orders-dead')).toBe(0)
    await redis.del('orders-heartbeat:redis-consumer-x')
    await expect(a.claim({ dataStreamName: 's0', idInLbs })).rejects.toMatchObject({ code: 'STREAM_GONE' })
    expect(await redis.xlen('orders-dead')).toBe(1)
  })
})
