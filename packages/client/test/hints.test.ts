/** A subscriber on a network that drops connections without a word. */
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Hints, type HintsContext } from '../src/agents/hints.js'
import { encodeFailoverMessage } from '../src/decisions/failover-message.js'
import { resolveServiceKeys } from '../src/service-keys.js'
import { silentLogger } from './support/silent-logger.js'

const patient = { timeout: 10_000, interval: 50 }
const keys = resolveServiceKeys('orders', { onCluster: false })

let server: RedisServer
const made: { stop(): void }[] = []
beforeAll(async () => {
  server = await RedisServer.start()
})
afterEach(() => {
  for (const each of made.splice(0)) each.stop()
})
afterAll(() => server[Symbol.asyncDispose]())

function subscriber(
  proxy: Pick<TcpProxy, 'port'>,
  { keyspaceEvents = 'off', onExpired = () => undefined }: Partial<HintsContext> = {},
) {
  const heard: unknown[] = []
  const redis = new Redis({ port: proxy.port, lazyConnect: true })
  const hints = new Hints({
    redis,
    connectionName: 'hints',
    commandTimeoutMs: 200,
    keys,
    db: 0,
    keyspaceEvents,
    logger: silentLogger,
    onExpired,
    onMessage: (message) => heard.push(message),
    onReconnect: () => undefined,
  })
  made.push(hints)
  return { heard, hints }
}

/** Publishes until somebody has heard of it. */
async function isHeard(heard: unknown[]): Promise<void> {
  const message = encodeFailoverMessage({
    type: 'waiting',
    consumer: 'redis-consumer-a:t',
    level: null,
    living: null,
  })
  const before = heard.length
  const publish = async (): Promise<number> => {
    await server.client().publish(keys.failoverChannel, message)
    return heard.length
  }
  await expect.poll(publish, patient).toBeGreaterThan(before)
}

describe('a subscriber', () => {
  it('hears again after its connection was dropped without a word', async () => {
    await using proxy = await TcpProxy.listen({ port: server.port })
    const { heard, hints } = subscriber(proxy)
    await hints.refresh()
    await isHeard(heard)
    const frozen = new Set(proxy.connections)
    proxy.freeze((each) => frozen.has(each))
    await isHeard(heard)
  })

  it('hears in the end when its first connection came to nothing', async () => {
    await using proxy = await TcpProxy.listen({ port: server.port })
    const { heard, hints } = subscriber(proxy)
    proxy.freeze(() => true)
    await hints.refresh()
    expect(hints.statuses).toEqual([])
    expect(hints.problems[0]?.message).toContain('no answer within 200 ms')
    proxy.thaw()
    await isHeard(heard)
    expect(hints.problems).toEqual([])
  })

  it('is told of keys that end where there are few clients, and where there were many when its session began it is not', async () => {
    let events = 0
    const { heard, hints } = subscriber(server, { keyspaceEvents: 'auto', onExpired: () => events++ })
    // What is published later is heard later.
    const eventsOfOneEnd = async (): Promise<number> => {
      const redis = server.client()
      await redis.set(keys.heartbeat('redis-consumer-a'), 't', 'PX', 1)
      await expect.poll(() => redis.exists(keys.heartbeat('redis-consumer-a')), patient).toBe(0)
      await isHeard(heard)
      return events
    }
    hints.clients = 51
    await hints.refresh()
    expect(await eventsOfOneEnd()).toBe(0)
    hints.clients = 50
    await hints.refresh()
    expect(await eventsOfOneEnd()).toBe(1)
  })
})
