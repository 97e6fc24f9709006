/** Timers whose time is longer than Node can wait. */
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Deadline } from '../src/async/deadline.js'
import { sleep } from '../src/async/sleep.js'
import { startTimer } from '../src/async/timer.js'
import { type ClientOptions, LbsProducer, RedisStreamClient } from '../src/index.js'

const GREATEST_MS = 2 ** 31 - 1
/** Node says so when it makes 1 ms of a time it cannot wait. */
let overflows: string[] = []
const note = (warning: Error): void => {
  if (warning.name === 'TimeoutOverflowWarning') overflows.push(warning.message)
}
beforeEach(() => {
  overflows = []
  process.on('warning', note)
})
afterEach(() => {
  process.off('warning', note)
})
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('a time longer than 25 days', () => {
  it('is not over at once', async () => {
    const over = new AbortController()
    const deadline = new Deadline(GREATEST_MS + 1000, over.signal)
    const slept = sleep(3 * GREATEST_MS, over.signal)
    const timer = startTimer(GREATEST_MS + 1, () => undefined)
    await nextTurn()
    expect(overflows).toEqual([])
    expect(deadline.isOver).toBe(false)
    clearTimeout(timer)
    over.abort()
    await slept
    deadline.clear()
  })

  it('is nowhere made of the greatest durations that the options allow', async () => {
    await using server = await RedisServer.start()
    const ttl = (GREATEST_MS - 1) / 2
    const greatest: ClientOptions = {
      heartbeatTtlMs: ttl,
      lbsIdleTimeMs: GREATEST_MS,
      claimStaggerMs: GREATEST_MS,
      crashWindowMs: GREATEST_MS,
      probeIntervalMs: GREATEST_MS,
      closeTimeoutMs: GREATEST_MS,
      consumerRetentionMs: GREATEST_MS,
      retry: { initialDelayMs: GREATEST_MS, maxDelayMs: GREATEST_MS },
      replicas: { count: 1, timeoutMs: 1 },
    }
    const client = new RedisStreamClient(server.client(), 'orders', {
      consumerId: 'a',
      logger: pino({ level: 'silent' }),
      ...greatest,
    })
    await client.init()
    await new LbsProducer(server.client(), 'orders').add('s')
    await expect.poll(() => client.owned.size, { timeout: 10_000 }).toBe(1)
    const [stream] = [...client.owned.values()]
    void stream?.signal.aborted // an owner that listens is waited for
    const closed = client.close()
    await nextTurn()
    expect(client.owned.size).toBe(1)
    await stream?.release().catch(() => undefined) // no replica is there
    await closed
    expect(overflows).toEqual([])
  })
})
