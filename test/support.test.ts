import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Redis } from 'ioredis'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Program } from './src/support/processes.js'
import { RedisServer, type RedisServerOptions } from './src/support/redis-server.js'
import { TcpProxy } from './src/support/tcp-proxy.js'

const cleanups: AsyncDisposable[] = []

afterEach(async () => {
  for (const resource of cleanups.splice(0).reverse()) await resource[Symbol.asyncDispose]()
})

async function startServer(options?: RedisServerOptions): Promise<RedisServer> {
  const server = await RedisServer.start(options)
  cleanups.push(server)
  return server
}

async function startProxy(server: RedisServer): Promise<TcpProxy> {
  const proxy = await TcpProxy.listen(server)
  cleanups.push(proxy)
  return proxy
}

/** What a promise has come to after this long. */
async function stateAfter(
  promise: Promise<unknown>,
  ms: number,
): Promise<'pending' | 'resolved' | 'rejected'> {
  return await Promise.race([
    promise.then(
      () => 'resolved' as const,
      () => 'rejected' as const,
    ),
    sleep(ms, 'pending' as const),
  ])
}

describe('ports', () => {
  test("are nobody else's until they are released, also while nobody listens on them", async () => {
    const ports = await import('./src/support/ports.js')
    vi.resetModules()
    const other = await import('./src/support/ports.js') // with the same process id, so it looks in the same place
    const taken = await Promise.all(Array.from({ length: 150 }, ports.takePort))
    const others = await Promise.all(Array.from({ length: 150 }, other.takePort))
    expect(new Set([...taken, ...others]).size).toBe(300)
    const [released = 0] = taken
    ports.releasePort(released)
    let again = 0
    while (again !== released) {
      again = await ports.takePort()
      expect(taken.slice(1)).not.toContain(again)
      expect(others).not.toContain(again)
      taken.push(again)
    }
  })
})

describe('RedisServer', () => {
  test('answers on its socket and on its port, in the database asked for', async () => {
    const server = await startServer({ db: 3 })
    await server.client().set('key', 'value')
    expect(await server.client({ port: server.port }).get('key')).toBe('value')
    expect(await server.client({ db: 0 }).get('key')).toBeNull()
    expect(server.url).toBe(`redis://127.0.0.1:${server.port}/3`)
  })

  test('says why it cannot start', async () => {
    await expect(startServer({ args: ['--no-such-option', 'yes'] })).rejects.toThrow(/no-such-option/)
  })

  test.each([
    ['loses its data at a restart by default', {}, {}, null],
    ['keeps its data over a restart when told to', {}, { data: 'saved' }, 'value'],
    [
      'keeps every write over a crash with an append-only file',
      { persistence: 'aof' },
      { crash: true },
      'value',
    ],
    ['keeps a snapshot over an orderly restart', { persistence: 'rdb' }, {}, 'value'],
    ['comes back empty when told to', { persistence: 'aof' }, { data: 'empty' }, null],
  ] as const)('%s', async (_, options, restart, expected) => {
    const server = await startServer(options)
    const client = server.client()
    await client.set('key', 'value')
    await server.restart(restart)
    expect(await client.get('key')).toBe(expected)
  })

  test('answers nothing while paused, and all of it afterwards', async () => {
    const server = await startServer()
    const client = server.client()
    await client.ping()
    server.pause()
    const answer = client.ping()
    expect(await stateAfter(answer, 100)).toBe('pending')
    server.resume()
    expect(await answer).toBe('PONG')
  })

  test('is gone after a kill, even while paused', async () => {
    const server = await startServer()
    server.pause()
    await server.kill()
    await server.kill()
    expect(server.isRunning).toBe(false)
    await server.startAgain()
    expect(await server.client().ping()).toBe('PONG')
  })
})

describe('TcpProxy', () => {
  async function setUp(): Promise<{ server: RedisServer; proxy: TcpProxy; near: Redis; far: Redis }> {
    const server = await startServer()
    const proxy = await startProxy(server)
    const far = server.client({
      port: proxy.port,
      retryStrategy: () => 10,
      maxRetriesPerRequest: 0,
    })
    await far.ping()
    return { server, proxy, near: server.client(), far }
  }

  test('forwards both ways and counts its connections', async () => {
    const { proxy, near, far } = await setUp()
    await far.set('key', 'x'.repeat(200_000))
    expect(await near.strlen('key')).toBe(200_000)
    expect(await far.get('key')).toHaveLength(200_000)
    expect(proxy.connections).toHaveLength(1)
    expect(proxy.connections[0]?.firstSent).toContain('ping')
  })

  test('breaks a connection that is cut, and forwards the next', async () => {
    const { proxy, far } = await setUp()
    const closed = new Promise((resolve) => far.once('close', resolve))
    proxy.cut()
    await closed
    expect(await far.ping()).toBe('PONG')
    expect(proxy.connections.map(({ isOpen }) => isOpen)).toEqual([false, true])
  })

  test('lets nothing through while frozen: no command, no answer, no end', async () => {
    const { server, proxy, near, far } = await setUp()
    let ended = false
    far.once('close', () => {
      ended = true
    })
    proxy.freeze()
    const write = far.set('key', 'value')
    expect(await stateAfter(write, 100)).toBe('pending')
    expect(await near.exists('key')).toBe(0)
    const late = server.client({ port: proxy.port })
    expect(await stateAfter(late.ping(), 100)).toBe('pending')
    expect(late.status).toBe('connect')
    proxy.thaw()
    expect(await write).toBe('OK')
    expect(await near.get('key')).toBe('value')
    proxy.freeze()
    await server.kill()
    await sleep(50)
    expect(ended).toBe(false)
    proxy.thaw()
    await eventually('the held-back end arrives', () => ended)
  })

  test('lets so many bytes a second through while throttled, and the rest at once afterwards', async () => {
    const { proxy, near, far } = await setUp()
    proxy.throttle(1000)
    const write = far.set('key', 'x'.repeat(100_000))
    expect(await stateAfter(write, 200)).toBe('pending')
    expect(await near.exists('key')).toBe(0)
    proxy.throttle(0)
    expect(await write).toBe('OK')
    proxy.throttle(1000)
    expect(await far.getrange('key', 0, 99)).toBe('x'.repeat(100))
  })

  test('leads new connections to another server when aimed at it', async () => {
    const { proxy, near, far } = await setUp()
    const other = await startServer()
    proxy.aim(other)
    await far.set('key', 'first')
    proxy.cut()
    await eventually('the connection is open again', () => far.ping())
    expect(await far.exists('key')).toBe(0)
    expect(await near.get('key')).toBe('first')
  })

  test('freezes only the connections that are meant', async () => {
    const { server, proxy, far } = await setUp()
    const reader = server.client({ port: proxy.port, connectionName: 'reader' })
    await reader.ping()
    proxy.freeze(({ firstSent }) => firstSent.includes('reader'))
    expect(await far.ping()).toBe('PONG')
    expect(await stateAfter(reader.ping(), 100)).toBe('pending')
  })

  test('delays requests and answers, in order', async () => {
    const { proxy, far } = await setUp()
    proxy.delay(50)
    const startedAt = performance.now()
    expect(await Promise.all([far.incr('n'), far.incr('n'), far.incr('n')])).toEqual([1, 2, 3])
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(98)
    proxy.delay(0)
    expect(await far.incr('n')).toBe(4)
  })

  test('loses the answer after the command was executed', async () => {
    const { proxy, near, far } = await setUp()
    proxy.dropReplies(1)
    await expect(far.incr('n')).rejects.toThrow()
    expect(await near.get('n')).toBe('1')
    expect(proxy.repliesDropped).toBe(1)
    expect(await far.incr('n')).toBe(2)
  })

  test('loses the answer to the request that is meant, and executes what was sent behind it', async () => {
    const { proxy, near, far } = await setUp()
    proxy.dropReplies((request) => request.includes('lost'))
    expect(await far.set('kept', '1')).toBe('OK')
    const lost = Promise.allSettled(['1', '2', '3'].map((value) => far.rpush('lost', value)))
    expect((await lost).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    expect(await near.lrange('lost', 0, -1)).toEqual(['1', '2', '3'])
    expect(await far.get('kept')).toBe('1')
  })

  test('refuses connects until it accepts again, and keeps what is open', async () => {
    const { server, proxy, far } = await setUp()
    await proxy.refuse()
    await proxy.refuse()
    expect(await far.ping()).toBe('PONG')
    const late = server.client({ port: proxy.port, retryStrategy: () => 10 })
    const refused = await new Promise<Error>((resolve) => late.once('error', resolve))
    expect(refused.message).toContain('ECONNREFUSED')
    await proxy.accept()
    await proxy.accept()
    expect(await late.ping()).toBe('PONG')
  })
})

describe('Program', () => {
  const echo = fileURLToPath(new URL('dist/src/support/echo.js', import.meta.url))

  function start(...args: string[]): Program {
    const program = Program.start(echo, { args, env: { ECHO: 'yes' } })
    cleanups.push(program)
    return program
  }

  test('hands each line out once, the oldest that is wanted first', async () => {
    const program = start('a', 'b')
    expect(await program.nextLine((line) => line['type'] === 'ready')).toEqual({
      type: 'ready',
      args: ['a', 'b'],
      env: 'yes',
    })
    program.send({ type: 'one' })
    program.send({ type: 'two' })
    expect(await program.nextLine((line) => line['type'] === 'two')).toEqual({ type: 'two' })
    expect(await program.nextLine()).toEqual({ type: 'one' })
    expect(program.lines).toHaveLength(3)
  })

  test('tells a line that does not come from a process that ended', async () => {
    const program = start()
    await program.nextLine()
    await expect(program.nextLine(() => true, 50)).rejects.toThrow(/no such line within 50 ms/)
    const waiting = program.nextLine()
    const [exit] = await Promise.all([program.kill(), expect(waiting).rejects.toThrow(/ended \(SIGKILL\)/)])
    expect(exit).toEqual({ code: null, signal: 'SIGKILL' })
    await expect(program.nextLine()).rejects.toThrow(/ended without such a line/)
  })

  test('ends with its stdin, and says nothing while paused', async () => {
    const program = start()
    await program.nextLine()
    program.pause()
    program.send({ type: 'late' })
    await expect(program.nextLine(() => true, 100)).rejects.toThrow(/within 100 ms/)
    program.resume()
    expect(await program.nextLine()).toEqual({ type: 'late' })
  })
})

describe('eventually', () => {
  test('resolves with the first value that is wanted', async () => {
    let n = 0
    expect(
      await eventually(
        'n is three',
        () => ++n,
        (value) => value === 3,
      ),
    ).toBe(3)
  })

  test('reports what it last saw', async () => {
    const options = { timeoutMs: 30 }
    await expect(
      eventually(
        'the moon',
        () => ({ phase: 'new' }),
        () => false,
        options,
      ),
    ).rejects.toThrow(/not within 30 ms: the moon; .* last saw { phase: 'new' }/)
    const failing = (): never => {
      throw new Error('clouds')
    }
    await expect(eventually('the moon', failing, () => true, options)).rejects.toThrow(
      /last saw an error: clouds/,
    )
  })
})
