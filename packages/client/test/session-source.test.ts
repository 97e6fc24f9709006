/** How a client comes to its first session, with a server that answers as the test says and a clock that runs fast. */
import { ReplyError } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { guardRecorder } from '../src/metrics.js'
import type { Connection } from '../src/redis/connection.js'
import type { Session } from '../src/session/session.js'
import { SessionSource } from '../src/session/session-source.js'
import { silentLogger } from './support/silent-logger.js'

const FASTER = 10
const TTL_MS = 1000
const NEVER = new AbortController().signal

function nowMs(): number {
  return performance.now() * FASTER
}

/** A server with one key. `answer` is asked for each try to take it. */
class KeyServer {
  /** Until when somebody's value is in the key. */
  takenUntilMs = 0
  tries = 0
  readonly #beganMs = nowMs()

  get ageMs(): number {
    return nowMs() - this.#beganMs
  }

  /** 1 if the key was free and is taken now, as the script of redlock answers. */
  take(): number {
    this.tries++
    if (nowMs() < this.takenUntilMs) return 0
    this.takenUntilMs = nowMs() + TTL_MS
    return 1
  }
}

async function begin(server: KeyServer, answer: () => Promise<number>): Promise<Session> {
  const connection = {
    // After a try that has failed redlock lets the key go, with two arguments; that gets lost.
    redis: {
      evalsha: (_hash: string, _keys: number, args: unknown[]) => (args.length === 3 ? answer() : lost()),
    },
    run: (command: () => Promise<unknown>) => command(),
  } as unknown as Connection
  const source = new SessionSource({
    clientId: 'redis-consumer-a',
    heartbeatKey: 'heartbeat',
    heartbeatTtlMs: TTL_MS,
    connection,
    clock: { now: () => ({ monotonicMs: nowMs(), wallMs: nowMs() }) },
    recorder: guardRecorder({}, () => undefined),
    logger: silentLogger,
  })
  const session = await source.begin(NEVER)
  session.end('the test is over')
  expect(server.tries).toBeGreaterThan(0)
  return session
}

async function lost(): Promise<never> {
  throw new Error('Connection is closed.')
}

describe('the first session', () => {
  it('waits for a predecessor that has crashed', async () => {
    const server = new KeyServer()
    server.takenUntilMs = nowMs() + TTL_MS
    await expect(begin(server, async () => server.take())).resolves.toBeDefined()
  })

  it('is refused while another process has the id', async () => {
    const server = new KeyServer()
    server.takenUntilMs = Number.POSITIVE_INFINITY
    const refused = begin(server, async () => server.take())
    await expect(refused).rejects.toMatchObject({ code: 'CONSUMER_ID_IN_USE' })
    expect(server.ageMs).toBeGreaterThanOrEqual(TTL_MS)
  })

  it('is not taken for that of another process when the answer to taking it was lost, time and again', async () => {
    const server = new KeyServer()
    const answer = async (): Promise<number> => {
      const taken = server.take()
      return taken === 1 && server.ageMs < 3 * TTL_MS ? await lost() : taken
    }
    await expect(begin(server, answer)).resolves.toBeDefined()
    expect(server.ageMs).toBeGreaterThan(3 * TTL_MS)
  })

  it('is not taken for that of another process when the answer comes too late', async () => {
    const server = new KeyServer()
    const answer = async (): Promise<number> => {
      const taken = server.take()
      const isLate = taken === 1 && server.ageMs < 3 * TTL_MS
      if (isLate) await new Promise((resolve) => setTimeout(resolve, TTL_MS / FASTER))
      return taken
    }
    await expect(begin(server, answer)).resolves.toBeDefined()
    expect(server.ageMs).toBeGreaterThan(3 * TTL_MS)
  })

  it('is not taken for that of another process when ours slept before it heard of its predecessor', async () => {
    const server = new KeyServer()
    server.takenUntilMs = nowMs() + TTL_MS
    const answer = async (): Promise<number> => {
      const taken = server.take()
      if (server.tries === 1) await new Promise((resolve) => setTimeout(resolve, (3 * TTL_MS) / FASTER))
      return taken
    }
    await expect(begin(server, answer)).resolves.toBeDefined()
  })

  it('outlasts a server that does not answer for some seconds', async () => {
    const server = new KeyServer()
    const answer = async (): Promise<number> => (server.ageMs < 3500 ? await lost() : server.take())
    await expect(begin(server, answer)).resolves.toBeDefined()
  })

  it('is given up when nobody answers for longer, with what was wrong', async () => {
    const refused = begin(new KeyServer(), lost)
    await expect(refused).rejects.toMatchObject({
      code: 'REDIS_ERROR',
      message: expect.stringContaining('Connection is closed'),
    })
  })

  it('is given up at once when Redis refuses', async () => {
    const server = new KeyServer()
    const refused = begin(server, async () => {
      server.tries++
      throw new (ReplyError as new (message: string) => Error)('NOPERM no permissions')
    })
    await expect(refused).rejects.toMatchObject({
      code: 'REDIS_ERROR',
      message: expect.stringContaining('NOPERM'),
    })
    expect(server.tries).toBe(1)
  })
})
