/** The application's ioredis connection, with whatever options: its address counts, and it stays the application's. */
import type { OwnedStream } from '@redis-stream-client/client'
import { LbsProducer, RedisStreamClient } from '@redis-stream-client/client'
import { Redis, type RedisOptions } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { RedisServer } from './src/support/redis-server.js'

/** Sessions that hold on a busy machine, and reads that wait longer than any of the odd timeouts. */
const STEADY = { heartbeatTtlMs: 2500, lbsIdleTimeMs: 5000, claimStaggerMs: 50 } as const

vi.setConfig({ testTimeout: 60_000 })

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

const ODD: readonly { name: string; options: RedisOptions }[] = [
  { name: 'lazyConnect', options: { lazyConnect: true } },
  { name: 'maxRetriesPerRequest null', options: { maxRetriesPerRequest: null } },
  { name: 'maxRetriesPerRequest 0', options: { maxRetriesPerRequest: 0 } },
  { name: 'no offline queue', options: { enableOfflineQueue: false } },
  { name: 'a short commandTimeout', options: { commandTimeout: 100 } },
  { name: 'a short blockingTimeout', options: { blockingTimeout: 100 } },
  { name: 'a short socketTimeout', options: { socketTimeout: 300 } },
  { name: 'stringNumbers', options: { stringNumbers: true } },
  { name: 'enableAutoPipelining', options: { enableAutoPipelining: true } },
  { name: 'replyMapping resp3', options: { replyMapping: 'resp3' } },
  { name: 'protocol 2', options: { protocol: 2 } },
  { name: 'no autoResubscribe', options: { autoResubscribe: false } },
  { name: 'no autoResendUnfulfilledCommands', options: { autoResendUnfulfilledCommands: false } },
  { name: 'a retryStrategy that gives up', options: { retryStrategy: () => null } },
  { name: 'reconnectOnError', options: { reconnectOnError: () => true } },
  { name: 'no ready check', options: { enableReadyCheck: false } },
  { name: 'a connectionName', options: { connectionName: 'the application' } },
  { name: 'showFriendlyErrorStack', options: { showFriendlyErrorStack: true } },
  { name: 'scripts', options: { scripts: { take: { lua: 'return 1', numberOfKeys: 0 } } } },
]

async function connect(options: RedisOptions): Promise<Redis> {
  const redis = new Redis({ path: server.socketPath, ...options } as never) as Redis
  redis.on('error', () => undefined)
  if (!options.lazyConnect) await eventually('it is connected', () => redis.status === 'ready')
  return redis
}

describe.concurrent('a connection with', () => {
  test.each(ODD)('$name serves as well as any', async ({ options }) => {
    await using fleet = new Fleet(server, STEADY)
    const redis = await connect(options)
    try {
      const statusBefore = redis.status
      const member = await fleet.join('odd', { redis })
      // Idle for longer than any of the timeouts: the reader waits without trouble.
      await eventually('it reads', () => member.client.health().lastReadAtMs !== null, Boolean, {
        timeoutMs: 8000,
      })
      await fleet.add('stream', { n: 1 })
      const stream = await member.given('stream')
      expect(stream).toMatchObject({ additionalInfo: { n: 1 }, recovered: false, checkpoint: null })
      expect(Number.isSafeInteger(stream.fencingToken)).toBe(true)
      await stream.commit('half')
      // A reconnect of everything the client has.
      await killConnections(fleet)
      await stream.commit('three quarters')
      await fleet.redis.del(fleet.state.heartbeatKey(member.client.id))
      const again = await member.given('stream', stream.fencingToken)
      expect(again).toMatchObject({ checkpoint: 'three quarters', recovered: true })
      const other = await fleet.join('other')
      await member.release(again)
      await other.given('stream')
      await other.done(other.streams[0] as OwnedStream)
      await fleet.add('last')
      await fleet.allOwned(['last'])
      await member.close()
      expect(redis.status).toBe(statusBefore)
    } finally {
      redis.disconnect()
    }
  })

  test('keyPrefix is refused', async () => {
    const redis = new Redis({ lazyConnect: true, keyPrefix: 'app:' })
    expect(() => new RedisStreamClient(redis, 'orders', { consumerId: 'x' })).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID' }) as Error,
    )
    expect(() => new LbsProducer(redis, 'orders')).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID' }) as Error,
    )
    redis.disconnect()
  })

  test('a database, by option, in the URL or selected, works on that one', async () => {
    await using three = await RedisServer.start({ db: 3 })
    const byOption = three.client({ db: 3 })
    const byUrl = new Redis(three.url)
    const selected = three.client({ db: 0 })
    await selected.select(3)
    for (const [index, redis] of [byOption, byUrl, selected].entries()) {
      await using fleet = new Fleet(three, STEADY)
      const member = await fleet.join(`client-${index}`, { redis })
      const id = await new LbsProducer(redis, fleet.service).add('stream')
      expect(await member.given('stream')).toMatchObject({ idInLbs: id })
      expect(await fleet.state.lock('stream')).toMatchObject({ owner: member.client.id })
      await killConnections(fleet)
      await member.done(member.streams[0] as OwnedStream)
      await fleet.allDone()
      await member.close()
    }
    byUrl.disconnect()
    expect(await three.client({ db: 0 }).dbsize()).toBe(0)
  })
})

describe.concurrent("the application's connection", () => {
  test('is never blocked, subscribed or closed, and sees no command of the client', async () => {
    await using fleet = new Fleet(server, STEADY)
    const redis = await connect({ connectionName: `app-${fleet.service}` })
    const id = await redis.client('ID')
    const member = await fleet.join('only', { redis })
    await fleet.add('stream')
    await member.done(await member.given('stream'))
    await fleet.redis.del(fleet.state.heartbeatKey(member.client.id))
    await eventually('a session was lost', () => member.errors.length > 0)
    await member.close()
    const list = String(await fleet.redis.client('LIST'))
    const line = list.split('\n').find((each) => each.includes(`name=app-${fleet.service} `)) ?? ''
    expect(line).toContain(`id=${id} `)
    expect(line).toContain('sub=0 psub=0')
    // Redis 6.2 leaves the subcommand out.
    expect(line).toMatch(/ cmd=client((\||%7C)id)? /)
    expect(redis.status).toBe('ready')
    expect(await redis.ping()).toBe('PONG')
    redis.disconnect()
  })

  test('may be disconnected: the client has its own', async () => {
    await using fleet = new Fleet(server, STEADY)
    const redis = await connect({})
    const member = await fleet.join('only', { redis })
    redis.disconnect()
    await killConnections(fleet)
    await fleet.add('stream')
    await member.given('stream')
  })

  test('with a wrong password ends init with REDIS_ERROR that does not show it', async () => {
    await using locked = await RedisServer.start()
    await locked.client().config('SET', 'requirepass', 'right')
    const redis = new Redis({ path: locked.socketPath, password: 'wrong-secret', lazyConnect: true })
    redis.on('error', () => undefined)
    const client = new RedisStreamClient(redis, 'orders', { consumerId: 'x', ...STEADY })
    const error = await client.init().catch((problem: unknown) => problem)
    expect(error).toMatchObject({ code: 'REDIS_ERROR' })
    const { inspect } = await import('node:util')
    expect(inspect(error, { depth: 10 })).not.toContain('wrong-secret')
    redis.disconnect()
  })

  test('may be shared by several clients', async () => {
    await using fleet = new Fleet(server, STEADY)
    const redis = await connect({})
    await Promise.all(['a', 'b', 'c'].map((name) => fleet.join(name, { redis })))
    const names = Array.from({ length: 30 }, (_, index) => `stream-${index}`)
    await fleet.addAll(names)
    await fleet.allOwned(names)
    redis.disconnect()
  })
})

/** Kills every connection of the fleet's clients. */
async function killConnections({ redis, service }: Fleet): Promise<void> {
  const list = String(await redis.client('LIST'))
  const ids = list
    .split('\n')
    .filter((line) => line.includes(` name=${service}:`))
    .map((line) => /^id=(\d+) /.exec(line)?.[1] ?? '')
  for (const id of ids) await redis.call('CLIENT', 'KILL', 'ID', id)
}
