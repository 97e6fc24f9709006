/** The ways to one server: password, ACL user, TLS, unix socket, a database other than 0. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { type ClientOptions, RedisStreamClient, type StreamClientError } from '@redis-stream-client/client'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import { describe, expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { RedisServer, type RedisServerOptions } from './src/support/redis-server.js'
import { makeCertificates } from './src/support/tls.js'
import { TopologyCrew } from './src/support/topology-crew.js'

const PASSWORD = 'correct horse battery staple'

/** Streams are taken over from a client that fell silent, of which an event tells, worked on, handed over and done. */
async function serves(redis: Redis): Promise<void> {
  redis.on('error', () => undefined)
  const sources = new Set<string>()
  const metrics = { expiryEvent: ({ source }: { source: string }) => void sources.add(source) }
  try {
    await using crew = new TopologyCrew(redis, 'orders', { metrics })
    await redis.xgroup('CREATE', 'orders-input', 'orders-group', '0', 'MKSTREAM')
    await crew.add('stream', { of: 'all' })
    await redis.xreadgroup('GROUP', 'orders-group', 'redis-consumer-ghost:t', 'STREAMS', 'orders-input', '>')
    await redis.set('orders-heartbeat:redis-consumer-ghost', 't', 'PX', 1000)
    const first = await crew.join('first')
    const held = await first.given('stream')
    expect(held).toMatchObject({ recovered: true, additionalInfo: { of: 'all' } })
    await eventually(
      'the event of the silent client is heard',
      () => [...sources],
      (heard) => heard.includes('keyspace'),
    )
    await held.commit('half way')
    const second = await crew.join('second')
    await first.close()
    const taken = await second.given('stream', held.fencingToken)
    expect(taken.checkpoint).toBe('half way')
    expect(second.client.health().connections.hints).toEqual(['ready'])
    await second.done(taken)
    expect(await redis.xlen('orders-input')).toBe(0)
  } finally {
    redis.disconnect()
  }
}

/** What init is refused with, together with everything that was logged about it. */
async function refusal(options: Omit<RedisOptions, 'replyMapping'>): Promise<string> {
  return await refusalOf(new Redis({ ...options, lazyConnect: true }))
}

async function refusalOf(redis: Redis | Cluster): Promise<string> {
  const lines: string[] = []
  const logger = loggerInto(lines)
  redis.on('error', () => undefined)
  const client = new RedisStreamClient(redis, '{orders}', { consumerId: 'first', logger })
  const seen: unknown[] = []
  client.on('error', (error) => seen.push(error))
  const error: unknown = await client.init().then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect((error as StreamClientError | undefined)?.code).toBe('REDIS_ERROR')
  redis.disconnect()
  const shown = inspect([error, ...seen, client.health()], { depth: 20, showHidden: true })
  return [shown, JSON.stringify(error), ...lines].join('\n')
}

/** Notes all that a logger would be given, on every level. */
function loggerInto(lines: string[]): NonNullable<ClientOptions['logger']> {
  const log = (...given: unknown[]): void => void lines.push(inspect(given, { depth: 20, showHidden: true }))
  const logger = { debug: log, info: log, warn: log, error: log, child: () => logger }
  return logger as unknown as NonNullable<ClientOptions['logger']>
}

async function start(options: RedisServerOptions): Promise<RedisServer> {
  return await RedisServer.start({ persistence: 'aof', ...options })
}

describe('a client', () => {
  test('uses a unix socket', async () => {
    await using server = await start({ args: ['--port', '0'] })
    await serves(new Redis({ path: server.socketPath }))
  })

  test('uses database 3, whose keyspace events carry that number', async () => {
    await using server = await start({ db: 3 })
    await serves(new Redis(server.url))
    const redis = server.client({ db: 0 })
    expect(await redis.dbsize()).toBe(0)
    expect(await redis.select(3)).toBe('OK')
    expect(await redis.dbsize()).toBeGreaterThan(0)
  })

  test('logs in with a password, and shows none when it is refused', async () => {
    await using server = await start({})
    await server.client().config('SET', 'requirepass', PASSWORD)
    await serves(new Redis({ port: server.port, host: '127.0.0.1', password: PASSWORD }))
    expect(await refusal({ port: server.port, host: '127.0.0.1', password: `${PASSWORD}!` })).not.toContain(
      PASSWORD,
    )
    await refusal({ port: server.port, host: '127.0.0.1' })
    const node = { port: server.port, host: '127.0.0.1' }
    const redisOptions = { username: 'default', password: `${PASSWORD}?` }
    expect(await refusalOf(new Cluster([node], { lazyConnect: true, redisOptions }))).not.toContain(PASSWORD)
  })

  test('logs in as a user that may use the keys and channels of its service alone', async () => {
    await using server = await start({})
    const admin = server.client()
    await admin.call(
      ...(['ACL', 'SETUSER', 'worker', 'on', `>${PASSWORD}`, 'resetchannels', '~orders-*'] as const),
      ...['&orders-failover', '&__keyspace@0__:orders-heartbeat:*'],
      ...['+@all', '-@dangerous', '-@admin', '+info'],
    )
    const login = { port: server.port, host: '127.0.0.1', username: 'worker' }
    // CONFIG is forbidden: the flags have to be there.
    await admin.config('SET', 'notify-keyspace-events', 'Kx')
    await serves(new Redis({ ...login, password: PASSWORD }))
    expect(await refusal({ ...login, password: `${PASSWORD}!` })).not.toContain(PASSWORD)
  })

  test('uses TLS with a private authority, and refuses a server it does not vouch for', async (context) => {
    const { caPem, server: certificate } = makeCertificates()
    const dir = await mkdtemp(join(tmpdir(), 'rsc-'))
    try {
      const file = async (name: string, text: string): Promise<string> => {
        await writeFile(join(dir, name), text)
        return join(dir, name)
      }
      const files = [
        ...['--tls-ca-cert-file', await file('ca.crt', caPem)],
        ...['--tls-cert-file', await file('server.crt', certificate.certificatePem)],
        ...['--tls-key-file', await file('server.key', certificate.privateKeyPem)],
      ]
      const options = { args: [...files, '--tls-auth-clients', 'no', '--tls-replication', 'no'] }
      await using server = await start(options).catch((error: Error) =>
        /bad directive|wrong number of arguments/i.test(error.message)
          ? context.skip('this server is built without TLS')
          : Promise.reject(error),
      )
      const admin = server.client()
      const plain = String(server.port)
      await admin.config('SET', 'port', '0')
      await admin.config('SET', 'tls-port', plain)
      const tls = { port: server.port, host: '127.0.0.1' }
      await serves(new Redis({ ...tls, tls: { ca: caPem } }))
      const secret = certificate.privateKeyPem.slice(40, 80)
      expect(await refusal({ ...tls, tls: { key: certificate.privateKeyPem } })).not.toContain(secret)
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
})
