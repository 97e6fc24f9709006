import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { LbsProducer } from '../src/lbs-producer.js'
import { Connection } from '../src/redis/connection.js'
import { databaseOf } from '../src/redis/duplicate.js'
import {
  DeadlineError,
  isMissingGroup,
  isTransient,
  messageOf,
  redisError,
} from '../src/redis/redis-errors.js'
import { FakeNode } from './support/fake-node.js'

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(() => server[Symbol.asyncDispose]())

const never = new AbortController().signal

describe('a connection', () => {
  it('is like the one it was made from in address and database, and in nothing that changes what we do', async () => {
    const template = server.client({
      db: 5,
      keyPrefix: '',
      commandTimeout: 1,
      stringNumbers: true,
      enableAutoPipelining: true,
      maxRetriesPerRequest: null,
    })
    const connection = new Connection(template, { name: 'mine', commandTimeoutMs: 5000 })
    await connection.open(5000, never)
    expect(await connection.run((redis) => redis.incr('n'))).toBe(1)
    const info = String(await connection.run((redis) => redis.client('INFO')))
    expect(info).toContain('name=mine')
    expect(info).toContain('db=5')
    connection.close()
  })

  it('works on the database the template was sent to by SELECT', async () => {
    const template = server.client()
    await template.select(7)
    expect(databaseOf(template)).toBe(7)
    expect(databaseOf(new Redis({ db: 3, lazyConnect: true }))).toBe(3)
    expect(databaseOf(new Redis({ lazyConnect: true }))).toBe(0)
  })

  it('is replaced when it does not answer, and works again by itself', async () => {
    await using proxy = await TcpProxy.listen({ port: server.port })
    const connection = new Connection(new Redis({ port: proxy.port, lazyConnect: true }), {
      name: 'slow',
      commandTimeoutMs: 300,
    })
    let reconnects = 0
    connection.onReconnect(() => reconnects++)
    await connection.open(5000, never)
    proxy.freeze((each) => each === proxy.connections[0]) // and it stays so: only a new connection works
    await expect(connection.run((redis) => redis.ping())).rejects.toBeInstanceOf(DeadlineError)
    await expect.poll(() => reconnects, { timeout: 1500 }).toBe(1)
    expect(await connection.run((redis) => redis.ping())).toBe('PONG')
    connection.close()
  })

  it('waits for an answer that keeps coming in, however slowly, and for none that has stopped', async () => {
    await using proxy = await TcpProxy.listen({ port: server.port })
    const value = 'x'.repeat(400_000)
    await server.client().set('large', value)
    const connection = new Connection(new Redis({ port: proxy.port, lazyConnect: true }), {
      name: 'narrow',
      commandTimeoutMs: 400,
    })
    await connection.open(5000, never)
    proxy.throttle(250_000) // four deadlines long
    expect(await connection.run((redis) => redis.get('large'))).toHaveLength(value.length)
    const pipeline = connection.run((redis) => redis.pipeline().get('large').get('large').exec())
    expect((await pipeline)?.map(([error]) => error)).toEqual([null, null])
    proxy.freeze()
    await expect(connection.run((redis) => redis.get('large'))).rejects.toBeInstanceOf(DeadlineError)
    connection.close()
  })

  it('waits for what takes long to be sent, and for what was sent behind it', async () => {
    await using proxy = await TcpProxy.listen({ port: server.port })
    const connection = new Connection(new Redis({ port: proxy.port, lazyConnect: true }), {
      name: 'narrow',
      commandTimeoutMs: 300,
    })
    await connection.open(5000, never)
    proxy.throttle(2_000_000) // seven deadlines for what follows
    const answers = Promise.all([
      connection.run((redis) => redis.set('large', Buffer.alloc(4_000_000))),
      connection.run((redis) => redis.set('small', 'x')),
    ])
    expect(await answers).toEqual(['OK', 'OK'])
    proxy.freeze()
    const startedAtMs = performance.now()
    await expect(connection.run((redis) => redis.get('small'))).rejects.toBeInstanceOf(DeadlineError)
    expect(performance.now() - startedAtMs).toBeLessThan(3000) // nothing is owed for what was answered
    connection.close()
  })

  it('notices that it is cut off without having anything to do', async () => {
    await using proxy = await TcpProxy.listen({ port: server.port })
    const connection = new Connection(new Redis({ port: proxy.port, lazyConnect: true }), {
      name: 'idle',
      commandTimeoutMs: 200,
    })
    let reconnects = 0
    connection.onReconnect(() => reconnects++)
    await connection.open(5000, never)
    await connection.run((redis) => redis.subscribe('news'))
    proxy.freeze((each) => each === proxy.connections[0])
    await expect.poll(() => reconnects, { timeout: 5000 }).toBe(1)
    connection.close()
  })

  it('says what keeps it away until it is answered again', async () => {
    await using own = await RedisServer.start()
    const connection = new Connection(own.client({ lazyConnect: true }), { name: 'x', commandTimeoutMs: 500 })
    await connection.open(5000, never)
    expect(connection.problem).toBeNull()
    await own.stop()
    await expect.poll(() => connection.problem?.message, { timeout: 5000 }).toContain('ENOENT')
    await own.restart()
    await expect.poll(() => connection.run((redis) => redis.ping()).catch(String)).toBe('PONG')
    expect(connection.problem).toBeNull()
    connection.close()
  })

  it('hears why a server hangs up before it is asked anything', async () => {
    await using own = await RedisServer.start()
    const admin = own.client()
    await admin.config('SET', 'maxclients', 1)
    const connection = new Connection(new Redis({ port: own.port, lazyConnect: true }), {
      name: 'x',
      commandTimeoutMs: 500,
    })
    const opened = connection.open(20_000, never)
    await expect.poll(() => connection.problem?.message, { timeout: 5000 }).toContain('max number of clients')
    await admin.config('SET', 'maxclients', 100)
    await opened
    connection.close()
  })

  it('hears it behind sentinels too, and gives one reason one text', async () => {
    await using own = await RedisServer.start()
    await using sentinel = await FakeNode.listen()
    await using proxy = await TcpProxy.listen({ port: sentinel.port })
    sentinel.master = own
    const sentinels = [{ host: '127.0.0.1', port: proxy.port }]
    const template = new Redis({ sentinels, name: 'main', updateSentinels: false, lazyConnect: true })
    const connection = new Connection(template, { name: 'x', commandTimeoutMs: 500 })
    await connection.open(5000, never)
    const admin = own.client()
    await admin.config('SET', 'maxclients', 1)
    connection.replace()
    await expect.poll(() => connection.problem?.message, { timeout: 5000 }).toContain('max number of clients')
    await proxy.refuse()
    await expect
      .poll(() => connection.problem?.message, { timeout: 5000 })
      .toContain('sentinels are unreachable')
    expect(connection.problem?.message).not.toContain('Retrying')
    connection.close()
  })

  it('rejects at once what is sent while it is away', async () => {
    const connection = new Connection(server.client({ lazyConnect: true }), {
      name: 'new',
      commandTimeoutMs: 5000,
    })
    connection.close()
    const send = vi.fn(() => Promise.resolve())
    await expect(connection.run(send)).rejects.toThrow()
    expect(send).not.toHaveBeenCalled()
  })

  it('says why it cannot be opened', async () => {
    const options = { name: 'x', commandTimeoutMs: 200 }
    const nobody = new Connection(new Redis({ port: 1, lazyConnect: true }), options)
    await expect(nobody.open(300, never)).rejects.toMatchObject({
      code: 'REDIS_ERROR',
      message: expect.stringContaining('ECONNREFUSED'),
    })
    nobody.close()
    const once = new Connection(new Redis({ port: 1, lazyConnect: true }), { ...options, reconnects: false })
    await expect(once.open(60_000, never)).rejects.toMatchObject({ code: 'REDIS_ERROR' })
  })

  it('is refused at once with a wrong password, which the error does not show', async () => {
    await using locked = await RedisServer.start()
    await locked.client().config('SET', 'requirepass', 'right')
    const template = new Redis({ port: locked.port, password: 'wrong-secret', lazyConnect: true })
    const connection = new Connection(template, { name: 'x', commandTimeoutMs: 1000 })
    const error = await connection.open(60_000, never).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'REDIS_ERROR', message: expect.stringContaining('WRONGPASS') })
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('wrong-secret')
    expect(JSON.stringify(connection.problem)).not.toContain('wrong-secret')
    connection.close()
  })
})

describe('a connection to a cluster', () => {
  it('finds a master again when it has replicas left alone', async () => {
    await using master = await FakeNode.listen()
    await using replica = await FakeNode.listen()
    master.replica = replica
    replica.isReplica = true
    const template = new Cluster([{ host: '127.0.0.1', port: master.port }], { lazyConnect: true })
    const connection = new Connection(template, { name: 'mine', commandTimeoutMs: 300 })
    await connection.open(5000, never)
    const set = (): Promise<string> => connection.run((redis) => redis.set('key', 'value'))
    await set()
    master.cut()
    await expect.poll(() => (connection.redis as Cluster).nodes('master').length).toBe(0)
    await expect(set()).rejects.toThrow('READONLY')
    await expect.poll(() => set().catch(messageOf), { timeout: 5000 }).toBe('OK')
    connection.close()
  })

  it('has listened when the node hangs up that was to be asked', async () => {
    await using node = await FakeNode.listen()
    await using other = await FakeNode.listen()
    node.importing = other
    node.nodes = [other, node] // `key` is in the second half of the slots
    other.nodes = node.nodes
    const template = new Cluster([{ host: '127.0.0.1', port: node.port }], { lazyConnect: true })
    const connection = new Connection(template, { name: 'mine', commandTimeoutMs: 3000 })
    await connection.open(5000, never)
    const unhandled: unknown[] = []
    const note = (error: unknown): void => void unhandled.push(error)
    process.on('unhandledRejection', note)
    await expect(connection.run((redis) => redis.get('key'))).rejects.toThrow('Connection is closed')
    await new Promise((resolve) => setTimeout(resolve, 50))
    process.off('unhandledRejection', note)
    expect(other.received).toContain('asking')
    expect(unhandled).toEqual([])
    connection.close()
  })

  it('comes back when an answer MOVED arrives while it is given up', async () => {
    await using node = await FakeNode.listen()
    const template = new Cluster([{ host: '127.0.0.1', port: node.port }], { lazyConnect: true })
    const connection = new Connection(template, { name: 'mine', commandTimeoutMs: 300 })
    let reconnects = 0
    connection.onReconnect(() => reconnects++)
    await connection.open(5000, never)
    await expect(connection.run((redis) => redis.get('key'))).rejects.toBeInstanceOf(DeadlineError)
    expect(node.received).toContain('get')
    await expect.poll(() => reconnects, { timeout: 5000 }).toBe(1)
    expect(await connection.run((redis) => redis.set('key', 'value'))).toBe('OK')
    connection.close()
  })

  it('comes back when its last node ends while it has begun to connect', async () => {
    await using quick = await FakeNode.listen()
    await using slow = await FakeNode.listen()
    quick.nodes = [quick, slow]
    slow.nodes = quick.nodes
    slow.isHalfOpen = true
    // Host names take time.
    const dnsLookup = (_host: string, found: (error: null, address: string) => void): void =>
      void setTimeout(() => found(null, '127.0.0.1'), 50)
    const template = new Cluster([{ host: 'localhost', port: quick.port }], { lazyConnect: true, dnsLookup })
    const connection = new Connection(template, { name: 'mine', commandTimeoutMs: 300 })
    let reconnects = 0
    connection.onReconnect(() => reconnects++)
    await connection.open(5000, never)
    // A key of each node, so that both are connected.
    for (const key of ['a', 'b']) expect(await connection.run((redis) => redis.set(key, ''))).toBe('OK')
    expect([quick, slow].every(({ received }) => received.includes('set'))).toBe(true)
    // The process is busy until it is time both to hang up on the slow one and to connect again.
    connection.redis.once('reconnecting', () => {
      for (const untilMs = performance.now() + 100; performance.now() < untilMs; );
    })
    connection.replace()
    await expect.poll(() => reconnects, { timeout: 5000 }).toBe(1)
    connection.close()
  })
})

describe('errors of Redis', () => {
  it('that say "not now" are told from those that say "no"', async () => {
    const redis = server.client()
    const answer = (message: string) =>
      redis.eval(`return redis.error_reply('${message}')`, 0).catch((error: unknown) => error)
    for (const message of ['LOADING x', 'READONLY x', 'OOM x', 'BUSY x', 'ERR in script: -MISCONF x']) {
      expect(isTransient(await answer(message))).toBe(true)
    }
    for (const message of ['WRONGTYPE x', 'NOPERM x', 'ERR syntax'])
      expect(isTransient(await answer(message))).toBe(false)
    expect(isTransient(new Error('Connection is closed.'))).toBe(true)
    expect(isMissingGroup(await answer('NOGROUP No such key'))).toBe(true)
    expect(isMissingGroup(new Error('NOGROUP'))).toBe(false)
  })

  it('carry the operation and the cause', () => {
    const cause = new Error('boom')
    expect(redisError('read', cause)).toMatchObject({ code: 'REDIS_ERROR', message: 'read: boom', cause })
    expect(redisError('read', 'boom')).toMatchObject({ message: 'read: boom' })
  })
})

describe('the producer', () => {
  it('adds a stream with its info, and answers the id', async () => {
    const redis = server.client()
    const id = await new LbsProducer(redis, 'orders').add('s', { n: 1 })
    expect(await redis.xrange('orders-input', id, id)).toEqual([
      [id, ['lbs-input', '{"DataStreamName":"s","Info":{"n":1}}']],
    ])
  })

  it('refuses what cannot be sent, and a connection with a prefix', async () => {
    const producer = new LbsProducer(server.client(), 'orders')
    await expect(producer.add('')).rejects.toMatchObject({ code: 'LBS_MESSAGE_INVALID' })
    const prefixed = new Redis({ lazyConnect: true, keyPrefix: 'x:' })
    expect(() => new LbsProducer(prefixed, 'orders')).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID' }),
    )
  })

  it('says which stream could not be added', async () => {
    const redis = server.client()
    await redis.set('broken-input', 'text')
    await expect(new LbsProducer(redis, 'broken').add('s')).rejects.toMatchObject({
      code: 'REDIS_ERROR',
      message: expect.stringContaining('add s to broken-input'),
    })
  })
})
