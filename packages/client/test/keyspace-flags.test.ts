import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { addKeyspaceFlags, FLAGS } from '../src/redis/keyspace-flags.js'

let server: RedisServer
let admin: Redis
beforeAll(async () => {
  server = await RedisServer.start()
  admin = server.client()
})
afterAll(() => server[Symbol.asyncDispose]())

async function flags(): Promise<string> {
  const [, value] = (await admin.config('GET', FLAGS)) as [string, string]
  return value.split('').sort().join('')
}

/** Somebody else changes the setting after `redis` has read it, as often as there are values. */
function interrupted(redis: Redis, values: string[]): Redis {
  const read = redis.config.bind(redis) as (...args: unknown[]) => Promise<unknown>
  const pipeline = redis.pipeline.bind(redis)
  const interrupt = async (): Promise<void> => {
    const value = values.shift()
    if (value !== undefined) await admin.config('SET', FLAGS, value)
  }
  redis.config = (async (...args: unknown[]) => {
    const answer = await read(...args)
    if (args[0] === 'GET') await interrupt()
    return answer
  }) as typeof redis.config
  redis.pipeline = (() => {
    const made = pipeline()
    const exec = made.exec.bind(made)
    made.exec = async () => {
      const answers = await exec()
      await interrupt()
      return answers
    }
    return made
  }) as typeof redis.pipeline
  return redis
}

describe('the flags for keyspace events', () => {
  it.each([
    ['', 'Kx'],
    ['Eg', 'EKgx'],
    ['KA', 'AK'],
    ['Kx', 'Kx'],
  ])('are added to %j', async (before, after) => {
    await admin.config('SET', FLAGS, before)
    await addKeyspaceFlags(server.client())
    expect(await flags()).toBe(after)
  })

  it('keep what somebody else adds between reading and writing them', async () => {
    await admin.config('SET', FLAGS, 'E')
    await addKeyspaceFlags(interrupted(server.client(), ['Eg']))
    expect(await flags()).toBe('EKgx')
  })

  it('keep what is added while those of another are put back', async () => {
    await admin.config('SET', FLAGS, '')
    await addKeyspaceFlags(interrupted(server.client(), ['El', 'El$']))
    expect(await flags()).toContain('l')
    expect(await flags()).toMatch(/(?=.*K)(?=.*x)(?=.*E)/)
  })
})
