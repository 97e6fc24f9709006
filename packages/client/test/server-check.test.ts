import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { ReplyError } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { Connection } from '../src/redis/connection.js'
import { checkServer } from '../src/redis/server-check.js'

/** A connection that answers INFO and CONFIG GET save as the test says. */
function server(info: Record<string, string> | Error, save: string | Error): Connection {
  const answer = <T>(value: T | Error) =>
    value instanceof Error ? Promise.reject(value) : Promise.resolve(value)
  const redis = {
    info: () => answer(info instanceof Error ? info : lines(info)),
    config: () => answer(save instanceof Error ? save : ['save', save]),
  }
  return { run: (command: (client: unknown) => unknown) => command(redis) } as unknown as Connection
}

function lines(info: Record<string, string>): string {
  return ['# Server', ...Object.entries(info).map(([key, value]) => `${key}:${value}`)].join('\r\n')
}

const healthy = { redis_version: '7.0.15', maxmemory_policy: 'noeviction', aof_enabled: '1' }
const reply = (message: string): Error => new (ReplyError as new (message: string) => Error)(message)
const refused = reply('NOPERM this user has no permissions')

describe('a server', () => {
  it.each(['6.2.0', '7.0.15', '8.2.1', '10.0.0'])('of version %s is fine', async (version) => {
    expect(await checkServer(server({ ...healthy, redis_version: version }, ''))).toEqual([])
  })

  it.each(['6.0.16', '5.0.14', '2.8.0'])('of version %s is too old', async (version) => {
    await expect(checkServer(server({ ...healthy, redis_version: version }, ''))).rejects.toMatchObject({
      code: 'REDIS_UNSUPPORTED',
      facts: { version },
    })
  })

  it.each(['allkeys-lru', 'allkeys-lfu', 'allkeys-random'])(
    'that may evict anything is warned of: %s',
    async (policy) => {
      const warnings = await checkServer(server({ ...healthy, maxmemory_policy: policy }, ''))
      expect(warnings.map((each) => each.facts)).toEqual([{ 'maxmemory-policy': policy }])
    },
  )

  it.each(['volatile-lru', 'volatile-lfu', 'volatile-random', 'volatile-ttl'])(
    'that may evict heartbeat keys is warned of: %s',
    async (policy) => {
      const [warning] = await checkServer(server({ ...healthy, maxmemory_policy: policy }, ''))
      expect(warning?.message).toContain('heartbeat keys')
    },
  )

  it('that has no INFO is taken as it is, with a warning', async () => {
    const warnings = await checkServer(server(reply("ERR unknown command 'info'"), ''))
    expect(warnings.map(({ message }) => message)).toEqual([expect.stringContaining('does not answer INFO')])
    await expect(checkServer(server(reply('NOAUTH Authentication required.'), ''))).rejects.toMatchObject({
      code: 'REDIS_ERROR',
    })
  })

  it('that keeps nothing on disk is warned of, one with snapshots is not', async () => {
    const [warning] = await checkServer(server({ ...healthy, aof_enabled: '0' }, ''))
    expect(warning?.message).toContain('keeps nothing on disk')
    expect(await checkServer(server({ ...healthy, aof_enabled: '0' }, '3600 1'))).toEqual([])
  })

  it('that refuses to answer is taken as it is; one that does not answer is not', async () => {
    expect(await checkServer(server(refused, refused))).toEqual([])
    expect(await checkServer(server({ ...healthy, aof_enabled: '0' }, refused))).toEqual([])
    await expect(checkServer(server(new Error('gone'), ''))).rejects.toMatchObject({ code: 'REDIS_ERROR' })
    await expect(
      checkServer(server({ ...healthy, aof_enabled: '0' }, new Error('gone'))),
    ).rejects.toMatchObject({ code: 'REDIS_ERROR' })
  })

  it('of this machine is recognised', async () => {
    await using own = await RedisServer.start({ args: ['--maxmemory-policy', 'allkeys-lru'] })
    const connection = new Connection(own.client(), { name: 'test', commandTimeoutMs: 5000 })
    await connection.open(5000, new AbortController().signal)
    const facts = (await checkServer(connection)).map((each) => Object.keys(each.facts)[0])
    expect(facts).toEqual(['maxmemory-policy', 'appendonly'])
    connection.close()
  })
})
