/** What connections of the client's own have of the application's one, and what they do not have. */
import { createConnection, type LookupFunction, type Socket } from 'node:net'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Connection, type ConnectionOptions } from '../src/redis/connection.js'
import type { RedisLike } from '../src/redis/duplicate.js'
import { FakeNode } from './support/fake-node.js'

const never = new AbortController().signal
const connections: Connection[] = []
afterEach(() => {
  for (const connection of connections.splice(0)) connection.close()
})

function connect(template: RedisLike, options: Partial<ConnectionOptions> = {}): Connection {
  const connection = new Connection(template, { name: 'ours', commandTimeoutMs: 1000, ...options })
  connections.push(connection)
  return connection
}

const ping = (connection: Connection): Promise<string> => connection.run((redis) => redis.ping())
const answers = (connection: Connection) =>
  expect.poll(() => ping(connection).catch(String), { timeout: 10_000 }).toBe('PONG')

describe('a password that is changed', () => {
  async function locked(...args: string[]): Promise<RedisServer> {
    const server = await RedisServer.start({ args })
    await server.client().config('SET', 'requirepass', 'first', 'masterauth', 'first')
    return server
  }

  async function change(server: RedisServer): Promise<void> {
    const admin = server.client({ password: 'first' })
    await admin.config('SET', 'requirepass', 'second')
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  }

  it('is used from the next connect on, by connections made of connections too', async () => {
    await using server = await locked()
    const template = new Redis({ port: server.port, password: 'first', lazyConnect: true })
    const connection = connect(template)
    await connection.open(5000, never)
    const second = connect(connection.redis)
    await second.open(5000, never)
    template.options.password = 'second'
    await change(server)
    await answers(connection)
    await answers(second)
    const third = connect(second.redis)
    await third.open(5000, never)
    await answers(third)
  })

  it('may come from a getter, which is asked at each connect', async () => {
    await using server = await locked()
    const template = new Redis({ port: server.port, lazyConnect: true })
    let password = 'first'
    Object.defineProperty(template.options, 'password', { get: () => password, enumerable: true })
    const connection = connect(template)
    await connection.open(5000, never)
    password = 'second'
    await change(server)
    await answers(connection)
  })

  it('is used on Cluster as well', async () => {
    await using server = await locked('--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1')
    await server.client({ password: 'first' }).call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
    const template = new Cluster([{ host: '127.0.0.1', port: server.port }], {
      lazyConnect: true,
      redisOptions: { password: 'first' },
    })
    const connection = connect(template)
    await connection.open(10_000, never)
    const second = connect(connection.redis)
    await second.open(10_000, never)
    await answers(second)
    Object.assign(template.options.redisOptions as RedisOptions, { password: 'second' })
    await change(server)
    await answers(connection)
    await answers(second)
  })
})

describe('a connection comes back', () => {
  it.each([
    ['gives up', () => null],
    ['waits for an hour', () => 3_600_000],
  ])('when no sentinel could be reached, though the application %s then', async (_, strategy) => {
    await using server = await RedisServer.start()
    await using sentinel = await FakeNode.listen()
    await using proxy = await TcpProxy.listen({ port: sentinel.port })
    sentinel.master = server
    const template = new Redis({
      sentinels: [{ host: '127.0.0.1', port: proxy.port }],
      name: 'main',
      role: 'slave',
      updateSentinels: false,
      sentinelRetryStrategy: strategy,
      lazyConnect: true,
    })
    const connection = connect(template)
    await connection.open(5000, never)
    await proxy.refuse()
    connection.replace()
    await expect.poll(() => connection.problem?.message).toContain('sentinels are unreachable')
    await proxy.accept()
    await answers(connection)
  })

  it('when it could not even begin to connect', async () => {
    await using server = await RedisServer.start()
    const template = new Redis({ port: server.port, lazyConnect: true })
    const connection = connect(template)
    await connection.open(5000, never)
    const ended = new Promise((resolve) => connection.redis.once('end', resolve))
    template.options.tls = { cert: 'no certificate' }
    connection.replace()
    await ended
    Reflect.deleteProperty(template.options, 'tls')
    await answers(connection)
  })

  it('when the application would give up', async () => {
    await using server = await RedisServer.start()
    const connection = connect(new Redis({ port: server.port, lazyConnect: true, retryStrategy: () => null }))
    await connection.open(5000, never)
    connection.replace()
    await answers(connection)
  })
})

describe('what the application has set up for itself', () => {
  it('changes no answer: scripts with the names of commands, prefixes, timeouts', async () => {
    await using server = await RedisServer.start()
    const template = new Redis({
      port: server.port,
      lazyConnect: true,
      scripts: { ping: { lua: 'return "of the application"', numberOfKeys: 0 } },
      socketTimeout: 1,
      commandTimeout: 1,
      connectionName: 'of the application',
      showFriendlyErrorStack: true,
    })
    const connection = connect(template)
    await connection.open(5000, never)
    expect(await ping(connection)).toBe('PONG')
    expect(String(await connection.run((redis) => redis.client('GETNAME')))).toBe('ours')
  })

  it.each([['--rename-command', 'INFO', ''], []])(
    'lets a connection get ready without INFO, and prints nothing: %s',
    async (...args) => {
      await using server = await RedisServer.start({ args })
      if (args.length === 0) await server.client().acl('SETUSER', 'default', '-info')
      const print = vi.spyOn(console, 'warn')
      const connection = connect(new Redis({ port: server.port, lazyConnect: true }))
      await connection.open(5000, never)
      expect(await ping(connection)).toBe('PONG')
      expect(print).not.toHaveBeenCalled()
      print.mockRestore()
    },
  )
})

describe('a server that is slow to reach', () => {
  /** Connects after a look-up of the server's name that takes a while. */
  function behindSlowNames({ port }: RedisServer, lookupMs: number, connectTimeout = 10_000): Redis {
    const lookup: LookupFunction = (_name, _options, found) =>
      void setTimeout(() => found(null, [{ address: '127.0.0.1', family: 4 }]), lookupMs)
    class Connector {
      socket: Socket | undefined
      connect(): Promise<Socket> {
        this.socket = createConnection({ port, host: 'redis.example', lookup })
        return Promise.resolve(this.socket)
      }
      disconnect(): void {
        this.socket?.end()
      }
      check(): boolean {
        return true
      }
    }
    const Made = Connector as unknown as NonNullable<RedisOptions['Connector']>
    return new Redis({ lazyConnect: true, Connector: Made, connectTimeout })
  }

  it('has the time that the application allows, where a command has less', async () => {
    await using server = await RedisServer.start()
    const connection = connect(behindSlowNames(server, 600), { commandTimeoutMs: 200 })
    await connection.open(1000, never)
    await answers(connection)
  })

  it('has no more than that, and the error says whose time it was', async () => {
    await using server = await RedisServer.start()
    const template = behindSlowNames(server, 5000, 300)
    await expect(connect(template).open(500, never)).rejects.toMatchObject({
      code: 'REDIS_ERROR',
      message: expect.stringContaining('connectTimeout of the ioredis client is 300 ms'),
    })
  })

  it('is refused in words that name the option, when it takes longer to answer than that', async () => {
    await using server = await RedisServer.start()
    await using proxy = await TcpProxy.listen({ port: server.port })
    proxy.delay(300)
    const connection = connect(new Redis({ port: proxy.port, lazyConnect: true }), {
      commandTimeoutMs: 200,
      timeoutOrigin: 'set by anOption',
    })
    await expect(connection.open(1000, never)).rejects.toMatchObject({
      message: expect.stringContaining('no answer within 200 ms (set by anOption)'),
    })
  })
})
