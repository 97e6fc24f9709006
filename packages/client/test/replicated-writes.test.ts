import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Connection } from '../src/redis/connection.js'
import { ReplicatedWrites } from '../src/redis/replicated-writes.js'
import { Script } from '../src/redis/script.js'

const WAIT = { count: 1, timeoutMs: 100 }

let server: RedisServer
let admin: Redis
let connection: Connection
beforeAll(async () => {
  server = await RedisServer.start()
  admin = server.client()
})
beforeEach(async () => {
  await admin.script('FLUSH')
  connection = new Connection(server.client(), { name: 'writes', commandTimeoutMs: 5000 })
  await connection.open(5000, new AbortController().signal)
  await admin.config('RESETSTAT')
})
afterEach(() => connection.close())
afterAll(() => server[Symbol.asyncDispose]())

const append = new Script("return redis.call('RPUSH', KEYS[1], ARGV[1])")
const count = new Script("return redis.call('INCR', KEYS[1])")

/** How often the server has been sent a command. */
async function calls(command: string): Promise<number> {
  const stats = await admin.info('commandstats')
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
}

describe('writes that replicas have to have', () => {
  it('share one wait, however many there are at the same time', async () => {
    const writes = new ReplicatedWrites(connection, WAIT)
    const many = Array.from({ length: 100 }, (_, index) => writes.run(append, ['list'], [String(index)]))
    const answers = await Promise.all(many)
    expect(answers.map(({ answer }) => answer)).toEqual(many.map((_, index) => index + 1))
    expect(answers.every(({ acknowledged }) => acknowledged === 0)).toBe(true)
    expect(await calls('wait')).toBe(1)
  })

  it('gather behind the wait that is under way, and go with the next', async () => {
    const writes = new ReplicatedWrites(connection, WAIT)
    const first = writes.run(count, ['n'], [])
    await expect.poll(() => calls('eval')).toBe(1)
    const rest = Array.from({ length: 20 }, () => writes.run(count, ['n'], []))
    await Promise.all([first, ...rest])
    expect(await calls('wait')).toBe(2)
    expect(await admin.get('n')).toBe('21')
  })

  it('are done where nobody may wait, and no replica is said to have them', async () => {
    await admin.call('ACL', 'SETUSER', 'hasty', 'on', '>secret', '~*', '+@all', '-wait')
    const login = server.client({ username: 'hasty', password: 'secret' })
    const hasty = new Connection(login, { name: 'hasty', commandTimeoutMs: 5000 })
    await hasty.open(5000, new AbortController().signal)
    const { acknowledged, answer, waitError } = await new ReplicatedWrites(hasty, WAIT).run(count, ['h'], [])
    hasty.close()
    expect([answer, acknowledged]).toEqual([1, 0])
    expect(waitError?.message).toContain("'wait'")
  })

  it('do not wait in vain for a script that the server has not been sent yet', async () => {
    const writes = new ReplicatedWrites(connection, WAIT)
    await writes.run(count, ['m'], [])
    await writes.run(count, ['m'], [])
    expect(await calls('wait')).toBe(2)
    expect([await calls('eval'), await calls('evalsha')]).toEqual([1, 1])
  })

  it('are sent again, whole, when the server has forgotten its scripts', async () => {
    const writes = new ReplicatedWrites(connection, WAIT)
    await writes.run(count, ['k'], [])
    await writes.run(append, ['k-list'], ['a'])
    await admin.script('FLUSH')
    const answers = await Promise.all([writes.run(count, ['k'], []), writes.run(append, ['k-list'], ['b'])])
    expect(answers.map(({ answer }) => answer)).toEqual([2, 2])
  })

  it('fail alone: what the server says of one is not said of the others', async () => {
    await admin.set('text', 'no list')
    const writes = new ReplicatedWrites(connection, WAIT)
    const results = await Promise.allSettled([
      writes.run(append, ['text'], ['a']),
      writes.run(append, ['another'], ['a']),
    ])
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled'])
    expect(String((results[0] as PromiseRejectedResult).reason)).toContain('WRONGTYPE')
  })

  it('are all told when the connection breaks', async () => {
    const writes = new ReplicatedWrites(connection, { count: 1, timeoutMs: 60_000 })
    const under = writes.run(count, ['x'], [])
    await expect.poll(() => calls('eval')).toBe(1)
    const behind = writes.run(count, ['x'], [])
    connection.close()
    await expect(under).rejects.toThrow()
    await expect(behind).rejects.toThrow()
  })
})
