/** An application that does not read its notifications. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { UnreadWatch } from '../src/agents/unread-watch.js'
import { LbsProducer, RedisStreamClient } from '../src/index.js'
import { silentLogger } from './support/silent-logger.js'

it('one that does not come back to its loop is warned once, and told when it has', () => {
  const lines: [string, object][] = []
  const logger = {
    ...silentLogger,
    info: (facts: object) => lines.push(['info', facts]),
    warn: (facts: object) => lines.push(['warn', facts]),
  }
  const deliveries = { oldestUnreadMs: 0, countUntold: () => 19 }
  const ownership = { streams: new Map([['s', {}]]) as never }
  const watch = new UnreadWatch({ deliveries, ownership, heartbeatTtlMs: 2000, logger })
  const checkAt = (ms: number): void => {
    deliveries.oldestUnreadMs = ms
    watch.check()
  }
  checkAt(10_000)
  expect(lines).toEqual([])
  for (const ms of [10_001, 12_000, 60_000]) checkAt(ms)
  expect(lines).toEqual([['warn', { unreadMs: 10_001, untold: 19, owned: 1 }]])
  for (const ms of [5, 0]) checkAt(ms)
  expect(lines.slice(1)).toEqual([['info', {}]])
  checkAt(10_001)
  expect(lines.map(([level]) => level)).toEqual(['warn', 'info', 'warn'])
})

it('health says how many owned streams it has not been told of, and since when, until it reads', async () => {
  await using server = await RedisServer.start()
  const redis = server.client()
  const lines: { msg?: string; untold?: number }[] = []
  const logger = pino({ level: 'warn' }, { write: (line: string) => lines.push(JSON.parse(line) as object) })
  const settings = {
    consumerId: 'a',
    heartbeatTtlMs: 200,
    notificationBufferSize: 2,
    closeTimeoutMs: 0,
    logger,
  }
  await using client = new RedisStreamClient(redis, 'orders', settings)
  const broker = await client.init()
  expect(client.health()).toMatchObject({ untold: 0, oldestUnreadMs: 0 })
  const producer = new LbsProducer(redis, 'orders')
  for (let n = 0; n < 6; n++) await producer.add(`s${n}`)
  await eventually('it owns as many as the queue holds', () => client.owned.size === 2)
  expect(client.health().untold).toBe(2)
  const stalls = (): typeof lines =>
    lines.filter(({ msg }) => msg?.startsWith('a notification waits to be read'))
  await eventually('it is warned', () => stalls().length > 0)
  expect(stalls()[0]?.untold).toBe(2)
  expect(client.health().oldestUnreadMs).toBeGreaterThan(5 * 200)
  const reader = broker[Symbol.asyncIterator]()
  const { value } = await reader.next()
  expect(value).toMatchObject({ type: 'StreamAdded' })
  for (let n = 1; n < 6; n++) await reader.next()
  await eventually('it knows of all', () => client.health().untold === 0)
  expect(client.health()).toMatchObject({ owned: 6, oldestUnreadMs: 0 })
  expect(stalls()).toHaveLength(1)
})
