/** How an owner gives streams, without a server. */
import { NotificationBroker, StreamClientError } from '@redis-stream-client/notifs'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { describe, expect, it } from 'vitest'
import { Rebalancer } from '../src/agents/rebalancer.js'
import { systemClock } from '../src/decisions/clock.js'
import { guardRecorder } from '../src/metrics.js'
import { Deliveries } from '../src/ownership/deliveries.js'
import { Ownership } from '../src/ownership/ownership.js'
import type { StreamChanges } from '../src/ownership/stream-changes.js'
import { StreamHandle, type StreamOperations } from '../src/ownership/stream-handle.js'
import { Withdrawals } from '../src/ownership/withdrawals.js'
import type { ServiceScripts } from '../src/redis/service-scripts.js'
import type { Session } from '../src/session/session.js'
import { silentLogger } from './support/silent-logger.js'

const session = {
  consumer: 'redis-consumer-a:t',
  isHeld: () => true,
  signal: new AbortController().signal,
  trust: { signals: 0 },
} as unknown as Session

/** A client that owns streams; `release` is what Redis says. */
function world(release: (stream: StreamHandle) => Promise<void>, timeoutMs = 60_000) {
  const recorder = guardRecorder(undefined, () => undefined)
  const broker = new NotificationBroker()
  const clock = systemClock
  const ownership = new Ownership({
    broker,
    maxOwnedStreams: Number.POSITIVE_INFINITY,
    clock,
    recorder,
    logger: silentLogger,
  })
  const operations: StreamOperations = {
    commit: () => Promise.resolve(),
    finish: () => Promise.resolve(),
    release: async (stream) => {
      await release(stream)
      ownership.leave(stream, 'release')
    },
  }
  const stop = new AbortController()
  const withdrawals = new Withdrawals({ ownership, operations, logger: silentLogger })
  const rebalancer = new Rebalancer({
    session,
    signal: stop.signal,
    scripts: {} as ServiceScripts,
    ownership,
    deliveries: new Deliveries(broker, clock, recorder),
    streamChanges: {} as StreamChanges,
    withdrawals,
    clock,
    recorder,
    logger: silentLogger,
    rebalance: { settleMs: 0, movesInFlight: 2, timeoutMs },
    closeTimeoutMs: 0,
    probeIntervalMs: 100,
    onEvent: () => undefined,
  })
  const own = (dataStreamName: string): StreamHandle => {
    const facts = {
      dataStreamName,
      idInLbs: `1-${dataStreamName}`,
      fencingToken: 1,
      message: { dataStreamName },
    }
    const more = { checkpoint: null, recovered: false, commits: 0, takenAtMs: clock.now().monotonicMs }
    const stream = new StreamHandle({ ...facts, ...more }, session, operations)
    ownership.add(stream)
    return stream
  }
  ownership.isDraining = true
  const running = rebalancer.run()
  const end = async (): Promise<void> => {
    stop.abort()
    await running
  }
  return { end, own, rebalancer, withdrawals }
}

describe('an owner that gives streams', () => {
  it('has no more under way at once than it may', async () => {
    let underWay = 0
    let most = 0
    const { end, own, rebalancer } = world(async () => {
      most = Math.max(most, ++underWay)
      await new Promise((resolve) => setTimeout(resolve, 5))
      underWay--
    })
    for (let index = 0; index < 7; index++) own(`s${index}`)
    await rebalancer.drain({ level: 1, living: 2 })
    expect(most).toBe(2)
    await end()
  })

  it('lets others work while a stream is about to leave by itself', async () => {
    let settle = (): void => undefined
    const { end, own, rebalancer } = world(() => new Promise((resolve) => (settle = resolve)))
    const stream = own('s')
    const leaving = stream.release()
    const drained = rebalancer.drain({ level: 1, living: 2 })
    await new Promise((resolve) => setTimeout(resolve, 20)) // a timer has its turn
    settle()
    await Promise.all([leaving, drained])
    expect(stream.endedBy).toBe('release')
    await end()
  })

  it('takes away what is not given back in time, and tries again what Redis refuses', async () => {
    const tried: string[] = []
    const { end, own, rebalancer, withdrawals } = world(async ({ dataStreamName }) => {
      tried.push(dataStreamName)
      if (tried.length < 3) throw new StreamClientError('REDIS_ERROR', 'refused')
    }, 20)
    const stream = own('s')
    const { signal } = stream
    const drained = rebalancer.drain({ level: 1, living: 2 })
    await eventually('it is given back in the end', () => tried.length === 3 && withdrawals.size === 0)
    expect(signal.reason).toMatchObject({ code: 'REBALANCING' })
    expect(stream.endedBy).toBe('rebalanced')
    await drained
    await end()
  })
})
