/** A real server for a test, which leaves nothing behind. */
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { Program } from '@redis-stream-client/test/support/processes'
import {
  type StartRedisOptions,
  startRedis,
  TestingError,
  type TestRedis,
} from '@redis-stream-client/testing'
import { Redis, type RedisOptions } from 'ioredis'
import { afterEach, describe, expect, test, vi } from 'vitest'

const STARTS_REDIS = fileURLToPath(new URL('programs/starts-redis.mjs', import.meta.url))

const cleanups: (() => unknown)[] = []

afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
  vi.unstubAllEnvs()
})

async function start(options?: StartRedisOptions): Promise<TestRedis> {
  const redis = await startRedis(options)
  cleanups.push(() => redis.stop())
  return redis
}

function clientOf({ url }: TestRedis, options: Omit<RedisOptions, 'replyMapping'> = {}): Redis {
  const client = new Redis(url, options)
  client.on('error', () => undefined)
  cleanups.push(() => client.disconnect())
  return client
}

async function codeOf(options: StartRedisOptions): Promise<unknown> {
  const error: unknown = await startRedis(options).then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(TestingError)
  return (error as TestingError).code
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe('startRedis', () => {
  test('gives an empty server that can be used at once, and says its version', async () => {
    const redis = await start()
    const client = clientOf(redis)
    expect(await client.dbsize()).toBe(0)
    expect(await client.info('server')).toContain(`redis_version:${redis.version}`)
    expect(redis.url).toBe(`redis://${redis.host}:${redis.port}`)
    expect((await client.config('GET', 'save'))[1]).toBe('')
  })

  test('gives each caller a server of its own', async () => {
    const [one, other] = await Promise.all([start(), start()])
    await clientOf(one).set('key', 'value')
    expect(await clientOf(other).get('key')).toBeNull()
  })

  test('hands arguments on, and takes the port asked for', async () => {
    const first = await start()
    const { port } = first
    await first.stop()
    const redis = await start({ port, args: ['--maxmemory', '64mb', '--port', '1'] })
    expect(redis.port).toBe(port)
    expect((await clientOf(redis).config('GET', 'maxmemory'))[1]).toBe(String(64 * 1024 * 1024))
  })

  test('says what is wrong when the port is taken, by another Redis server too', async () => {
    const { port } = await start()
    const starting = startRedis({ port })
    await expect(starting).rejects.toMatchObject({ code: 'REDIS_NOT_STARTED' })
    await expect(starting).rejects.toThrow(`port ${port} is taken`)
  })

  test('says what the server said when it does not start', async () => {
    const starting = startRedis({ args: ['--no-such-option', 'yes'] })
    await expect(starting).rejects.toMatchObject({ code: 'REDIS_NOT_STARTED' })
    await expect(starting).rejects.toThrow('no-such-option')
  })

  test('starts only a version that was asked for, and says how to get it', async () => {
    const { version } = await start()
    const [major = ''] = version.split('.')
    expect((await start({ version: major })).version).toBe(version)
    const starting = startRedis({ version: '99.1' })
    await expect(starting).rejects.toMatchObject({ code: 'REDIS_NOT_FOUND' })
    await expect(starting).rejects.toThrow(`is version ${version}, and 99.1 is wanted`)
    await expect(starting).rejects.toThrow('startRedis({ download: true })')
  })

  test('looks for a version whose beginning it is, number by number', async () => {
    const { version } = await start()
    const [major = '', minor = ''] = version.split('.')
    expect(await codeOf({ version: `${major}.${minor.slice(0, -1)}9`.replace('..', '.') })).toBe(
      'REDIS_NOT_FOUND',
    )
  })

  test('names the binary that REDIS_SERVER_BIN asks for and that does not run', async () => {
    vi.resetModules()
    vi.stubEnv('REDIS_SERVER_BIN', '/no/such/server')
    const { startRedis: startAnew } = await import('@redis-stream-client/testing')
    await expect(startAnew()).rejects.toThrow('REDIS_SERVER_BIN=/no/such/server does not work')
  })

  test.each([
    [{ port: 0 }],
    [{ port: 70_000 }],
    [{ version: '>=7' }],
    [{ args: 'port 1' }],
    [{ download: 'yes' }],
    [{ prot: 1 }],
  ])('refuses %j', async (options) => {
    expect(await codeOf(options as StartRedisOptions)).toBe('OPTION_INVALID')
  })

  test('answers nothing while paused, and can be stopped then', async () => {
    const redis = await start()
    const client = clientOf(redis)
    await client.ping()
    redis.pause()
    const late = clientOf(redis, { commandTimeout: 50, maxRetriesPerRequest: 0 })
    await expect(late.ping()).rejects.toThrow('timed out')
    redis.resume()
    expect(await client.ping()).toBe('PONG')
    redis.pause()
    await redis.stop()
    expect(isAlive(redis.pid)).toBe(false)
  })

  test('is gone with its folder when it is stopped, twice too', async () => {
    const redis = await start()
    const [, folder = ''] = (await clientOf(redis).config('GET', 'dir')) as string[]
    await Promise.all([redis.stop(), redis.stop()])
    await redis.stop()
    expect(isAlive(redis.pid)).toBe(false)
    expect(await readdir(dirname(folder))).not.toContain(folder.split('/').at(-1))
  })

  test('is stopped at the end of the block that uses it', async () => {
    let pid = 0
    {
      await using redis = await startRedis()
      pid = redis.pid
      expect(isAlive(pid)).toBe(true)
    }
    expect(isAlive(pid)).toBe(false)
  })
})

describe('a test process', () => {
  async function run(how: string): Promise<{ program: Program; pid: number; folder: string }> {
    const program = Program.start(STARTS_REDIS, { args: [how] })
    cleanups.push(() => program.kill())
    const { pid, url } = (await program.nextLine(() => true, 25_000)) as unknown as {
      pid: number
      url: string
    }
    const folder = how === 'hang' ? await folderAt(url) : ''
    return { program, pid, folder }
  }

  async function folderAt(url: string): Promise<string> {
    const client = new Redis(url)
    const [, folder = ''] = (await client.config('GET', 'dir')) as string[]
    client.disconnect()
    return folder
  }

  test('that is killed leaves neither server nor folder', async () => {
    const { program, pid, folder } = await run('hang')
    expect(isAlive(pid)).toBe(true)
    await program.kill('SIGKILL')
    await eventually(
      'the server is gone',
      () => isAlive(pid),
      (alive) => !alive,
    )
    await eventually(
      'its folder is gone',
      () => readdir(tmpdir()),
      (names) => !names.includes(folder.split('/').at(-1) as string),
    )
  })

  test.each([
    ['forgets to stop its server ends by itself', 'forget', 0],
    ['fails ends', 'throw', 1],
  ])('that %s, and the server with it', async (_, how, code) => {
    const { program, pid } = await run(how)
    expect(await program.exited).toEqual({ code, signal: null })
    await eventually(
      'the server is gone',
      () => isAlive(pid),
      (alive) => !alive,
    )
  })
})
