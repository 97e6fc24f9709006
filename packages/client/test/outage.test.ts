/** What an operator is told while a client is without Redis. */
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { pino } from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { RedisStreamClient } from '../src/index.js'
import type { SafeLogger } from '../src/logger.js'
import { Outage } from '../src/session/outage.js'

const WARN = 40
const INFO = 30
const patient = { timeout: 15_000, interval: 20 }

const clients: RedisStreamClient[] = []
afterEach(() => Promise.all(clients.splice(0).map((client) => client.close())))

/** A logger whose lines can be read. */
function readable(): { logger: pino.Logger; lines: { level: number; error?: string; msg: string }[] } {
  const lines: { level: number; error?: string; msg: string }[] = []
  const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  return { logger, lines }
}

describe('while there is no session', () => {
  it('health and the log say why, and that it is over', async () => {
    await using server = await RedisServer.start()
    const admin = server.client()
    await admin.config('SET', 'requirepass', 'right')
    const { logger, lines } = readable()
    const client = new RedisStreamClient(server.client({ password: 'right' }), 'orders', {
      consumerId: 'a',
      heartbeatTtlMs: 500,
      logger,
    })
    clients.push(client)
    await client.init()
    await expect.poll(() => client.health().connections.reader, patient).toBe('ready')
    await expect.poll(() => client.health().connectionProblems, patient).toEqual([])
    await admin.config('SET', 'requirepass', 'another')
    await admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    const said = (level: number, text: string) =>
      lines.filter((line) => line.level === level && `${line.error} ${line.msg}`.includes(text))
    await expect
      .poll(() => said(WARN, 'WRONGPASS').map(({ msg }) => msg), patient)
      .toContain('no session can be begun, trying on')
    const { connectionProblems, lastError } = client.health()
    expect(connectionProblems.map(({ connection }) => connection)).toEqual(
      expect.arrayContaining(['commands', 'heartbeat', 'hints']),
    )
    expect(connectionProblems.every(({ message }) => message.includes('WRONGPASS'))).toBe(true)
    expect(lastError?.message).toContain('WRONGPASS')
    await admin.config('SET', 'requirepass', 'right')
    await expect.poll(() => client.health().session, patient).toBe('held')
    await expect.poll(() => client.health().connectionProblems, patient).toEqual([])
    expect(said(INFO, 'there is a session again')).toHaveLength(1)
    expect(said(WARN, 'no session can be begun')).toHaveLength(1)
  })
})

describe('what Redis answers instead of extending a session', () => {
  const timing = { consumerId: 'a', heartbeatTtlMs: 500 }

  it('is in health and once in the log while it lasts', async () => {
    await using server = await RedisServer.start()
    const admin = server.client()
    const { logger, lines } = readable()
    const client = new RedisStreamClient(server.client(), 'orders', { ...timing, logger })
    clients.push(client)
    await client.init()
    await admin.config('SET', 'min-replicas-to-write', '1')
    const said = (text: string) => lines.filter(({ msg }) => msg.includes(text))
    await expect.poll(() => said('no session can be begun')[0]?.error, patient).toContain('NOREPLICAS')
    await expect
      .poll(() => client.health().connectionProblems, patient)
      .toContainEqual(
        expect.objectContaining({ connection: 'heartbeat', message: expect.stringContaining('NOREPLICAS') }),
      )
    expect(client.health().lastError?.message).toContain('NOREPLICAS')
    await admin.config('SET', 'min-replicas-to-write', '0')
    await expect.poll(() => client.health().session, patient).toBe('held')
    await expect.poll(() => client.health().connectionProblems, patient).toEqual([])
    expect(said('no session can be begun')).toHaveLength(1)
  })

  it('is the reason of its end, also where a permission is missing', async () => {
    await using server = await RedisServer.start()
    const admin = server.client()
    await admin.call('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all')
    const login = { username: 'app', password: 'secret' }
    const client = new RedisStreamClient(server.client(login), 'orders', {
      ...timing,
      logger: readable().logger,
    })
    clients.push(client)
    await client.init()
    await admin.call('ACL', 'SETUSER', 'app', '-pexpire')
    await expect.poll(() => client.health().lastError?.message, patient).toContain("'pexpire'")
  })
})

describe('the reasons of an outage', () => {
  function log(): { logger: SafeLogger; said: string[] } {
    const said: string[] = []
    const note = (facts: object): void => void said.push((facts as { error?: string }).error ?? 'over')
    return { logger: { debug: () => undefined, error: note, info: note, warn: note }, said }
  }
  const problem = (message: string) => ({ problem: { message, atMs: 0 } })

  it('are said once each, a few at most', () => {
    const { logger, said } = log()
    const outage = new Outage(logger)
    for (const reason of ['a', 'b', 'a', 'b', 'c', 'd']) outage.hear(new Error('closed'), problem(reason))
    outage.end()
    expect(said).toEqual(['a', 'b', 'c', 'over'])
  })

  it('are the same wherever in a script they arose, and are said anew in the next outage', () => {
    const { logger, said } = log()
    const outage = new Outage(logger)
    const inLine = (line: number) => `NOREPLICAS no. script: ${'a'.repeat(40)}, on @user_script:${line}.`
    outage.hear(new Error('closed'), problem(inLine(6)))
    outage.hear(new Error('closed'), problem(inLine(12)))
    outage.end()
    outage.hear(new Error('closed'), problem(inLine(6)))
    expect(said).toEqual(['NOREPLICAS no.', 'over', 'NOREPLICAS no.'])
  })

  it('are not those of a command that found its connection away, nor told when there was none', () => {
    const { logger, said } = log()
    const outage = new Outage(logger)
    outage.hear(new Error('Connection is closed.'), { problem: null })
    outage.end()
    expect(said).toEqual([])
    outage.hear(new TypeError('no function'), { problem: null })
    expect(said).toEqual(['no function'])
  })
})
