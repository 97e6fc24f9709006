/** Streams whose owner lives and does nothing for them. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ProgressWatch } from '../src/agents/progress-watch.js'
import { type Clock, systemClock } from '../src/decisions/clock.js'
import {
  type ClientOptions,
  LbsProducer,
  type Notification,
  NotificationBroker,
  type OwnedStream,
  RedisStreamClient,
  StreamClientError,
} from '../src/index.js'
import { guardRecorder } from '../src/metrics.js'
import { Ownership } from '../src/ownership/ownership.js'
import { StreamHandle, type StreamOperations } from '../src/ownership/stream-handle.js'
import { Withdrawals } from '../src/ownership/withdrawals.js'
import type { Session } from '../src/session/session.js'
import { silentLogger } from './support/silent-logger.js'

const TIMEOUT_MS = 1000
/** So that a slow machine does not make it lose what it works on. */
const PATIENT = { progressTimeoutMs: 20_000 }
const waiting = { timeoutMs: 15_000 }

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(() => server[Symbol.asyncDispose]())

interface Application extends AsyncDisposable {
  readonly client: RedisStreamClient
  readonly heard: Notification[]
}

/** An application whose loop hands each notification to `on`, and waits for what that answers. */
async function start(
  service: string,
  consumerId: string,
  on: (notification: Notification, client: RedisStreamClient) => unknown,
  options: ClientOptions = {},
): Promise<Application> {
  const settings = {
    claimMode: 'auto',
    heartbeatTtlMs: 5000,
    progressTimeoutMs: TIMEOUT_MS,
    closeTimeoutMs: 0,
  } as const
  const logger = pino({ level: 'silent' })
  const client = new RedisStreamClient(server.client(), service, {
    consumerId,
    logger,
    ...settings,
    ...options,
  })
  const heard: Notification[] = []
  const broker = await client.init()
  const loop = async (): Promise<void> => {
    for await (const notification of broker) {
      heard.push(notification)
      await on(notification, client)
    }
  }
  void loop()
  return { client, heard, [Symbol.asyncDispose]: () => client.close() }
}

/** Says again and again that the work goes on, until ownership ends. */
function keepTouching(stream: OwnedStream): void {
  const timer = setInterval(() => stream.touch(), 20)
  stream.signal.addEventListener('abort', () => clearInterval(timer))
}

const touchAdded = (notification: Notification): void => {
  if (notification.type === 'StreamAdded') keepTouching(notification.stream)
}
const stuck = (): Promise<never> => new Promise(() => undefined)

async function add(service: string, count: number): Promise<void> {
  const producer = new LbsProducer(server.client(), service)
  for (let n = 0; n < count; n++) await producer.add(`s${n}`)
}

describe('with progressTimeoutMs', () => {
  it('a stream that is neither committed nor touched is disowned, and only then another client gets it', async () => {
    const kept: OwnedStream[] = []
    await using idle = await start('quiet', 'a', (notification) => {
      if (notification.type === 'StreamAdded') kept.push(notification.stream)
    })
    await add('quiet', 1)
    const stream = await eventually('it is owned', () => kept[0])
    const { signal } = stream as OwnedStream
    const ownedThen: boolean[] = []
    await using other = await start(
      'quiet',
      'b',
      (notification) => {
        ownedThen.push((stream as OwnedStream).owned)
        touchAdded(notification)
      },
      PATIENT,
    )
    await eventually('the other has it', () => other.client.owned.get('s0'), Boolean, waiting)
    expect(ownedThen).toEqual([false])
    expect(signal.reason).toMatchObject({ code: 'STREAM_NOT_OWNED' })
    expect(idle.heard.map((each) => [each.type, 'reason' in each ? each.reason : null])).toEqual([
      ['StreamAdded', null],
      ['StreamDisowned', 'no-progress'],
    ])
    const taken = other.client.owned.get('s0') as OwnedStream
    expect(taken.recovered).toBe(true)
    expect(taken.fencingToken).toBeGreaterThan((stream as OwnedStream).fencingToken)
    await expect((stream as OwnedStream).commit('1-0')).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
    await expect((stream as OwnedStream).release()).rejects.toMatchObject({ code: 'STREAM_NOT_OWNED' })
    await taken.commit('2-0')
  })

  it('what a loop that awaits its work leaves unread is worked on by another client', async () => {
    await using first = await start('stuck', 'a', stuck)
    await add('stuck', 20)
    await eventually('it owns all', () => first.client.owned.size === 20, Boolean, waiting)
    await eventually('it was told of one', () => first.client.health().untold === 19)
    await using second = await start('stuck', 'b', touchAdded, PATIENT)
    await eventually('the other owns all', () => second.client.owned.size === 20, Boolean, waiting)
    expect(first.client.owned.size).toBe(0)
    expect(first.heard).toHaveLength(1)
  })

  it('in manual mode the others are told that it may be claimed', async () => {
    await using first = await start('manual', 'a', () => undefined, { claimMode: 'manual' })
    await add('manual', 1)
    await eventually('it is owned', () => first.client.owned.size === 1)
    await using second = await start(
      'manual',
      'b',
      async (notification, client) => {
        if (notification.type === 'StreamExpired') keepTouching(await client.claim(notification.payload))
      },
      { claimMode: 'manual', ...PATIENT },
    )
    await eventually('the other has claimed it', () => second.client.owned.size === 1, Boolean, waiting)
  })

  it('a stream that is touched or committed stays, beside one that does not', async () => {
    const fate = new Map<string, string>()
    await using owner = await start(
      'beside',
      'a',
      (notification) => {
        if (notification.type === 'StreamDisowned')
          fate.set(notification.payload.dataStreamName, notification.reason)
        if (notification.type !== 'StreamAdded') return
        const { stream } = notification
        if (stream.dataStreamName === 's0') keepTouching(stream)
        if (stream.dataStreamName === 's1') void commitOn(stream)
      },
      { progressTimeoutMs: 2000, heartbeatTtlMs: 10_000 },
    )
    await add('beside', 3)
    await eventually('the third is lost', () => fate.has('s2'), Boolean, waiting)
    expect([...fate]).toEqual([['s2', 'no-progress']])
    expect([...owner.client.owned.keys()].sort()).toEqual(['s0', 's1'])
  })

  it('a client that is alone gets the stream again, later', async () => {
    await using alone = await start('alone', 'a', () => undefined, {
      heartbeatTtlMs: 500,
      lbsIdleTimeMs: 1000,
      progressTimeoutMs: 200,
    })
    await add('alone', 1)
    const added = (): Notification[] => alone.heard.filter(({ type }) => type === 'StreamAdded')
    await eventually('it is told of it twice', () => added().length >= 2, Boolean, waiting)
    expect(alone.heard.slice(0, 3).map(({ type }) => type)).toEqual([
      'StreamAdded',
      'StreamDisowned',
      'StreamAdded',
    ])
  })
})

async function commitOn(stream: OwnedStream): Promise<void> {
  for (let n = 1; stream.owned; n++) {
    await stream.commit(`${n}-0`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

describe('the watch over progress', () => {
  const session = {
    isHeld: () => true,
    signal: new AbortController().signal,
    trust: { signals: 0 },
  } as unknown as Session
  const farAhead = { now: () => ({ monotonicMs: Number.MAX_SAFE_INTEGER, wallMs: 0 }) }
  const never: StreamOperations = { commit: stuck, finish: stuck, release: stuck }

  function world(
    release: (stream: StreamHandle, withdrawals: Withdrawals) => Promise<void>,
    clock: Clock = farAhead,
  ) {
    const recorder = guardRecorder(undefined, () => undefined)
    const ownership = new Ownership({
      broker: new NotificationBroker(),
      maxOwnedStreams: Number.POSITIVE_INFINITY,
      clock,
      recorder,
      logger: silentLogger,
    })
    const operations = { ...never, release: (stream: StreamHandle) => release(stream, withdrawals) }
    const withdrawals: Withdrawals = new Withdrawals({ ownership, operations, logger: silentLogger })
    const stop = new AbortController()
    const watch = new ProgressWatch({
      session,
      signal: stop.signal,
      progressTimeoutMs: 100,
      ownership,
      withdrawals,
      clock,
      logger: silentLogger,
    })
    return { ownership, stop, watch, withdrawals }
  }

  function own(ownership: Ownership, dataStreamName: string): StreamHandle {
    const stream = new StreamHandle(
      {
        dataStreamName,
        idInLbs: `1-${dataStreamName}`,
        fencingToken: 1,
        message: { dataStreamName: 's' },
        checkpoint: null,
        recovered: false,
        commits: 0,
        takenAtMs: 0,
      },
      session,
      never,
    )
    ownership.add(stream)
    return stream
  }

  it('leaves alone a stream with a commit, done or release under way', async () => {
    const given: string[] = []
    const { ownership, stop, watch } = world(async ({ dataStreamName }) => void given.push(dataStreamName))
    const calls = {
      committing: own(ownership, 'committing'),
      ending: own(ownership, 'ending'),
      leaving: own(ownership, 'leaving'),
    }
    void calls.committing.commit('1-0')
    void calls.ending.done()
    void calls.leaving.release()
    own(ownership, 'idle')
    const running = watch.run()
    await eventually('the idle one is given back', () => given.length > 0)
    stop.abort()
    await running
    expect(given).toEqual(['idle'])
    expect([...ownership.streams.keys()]).toEqual(['committing', 'ending', 'leaving'])
  })

  it('gives owners time to speak up after the process stood still', async () => {
    const { ownership, stop, watch } = world(() => Promise.resolve(), systemClock)
    const stream = own(ownership, 's')
    let next: NodeJS.Immediate | undefined
    const touchAgain = (): void => {
      stream.touch()
      next = setImmediate(touchAgain)
    }
    touchAgain()
    const running = watch.run()
    await new Promise<void>((resolve) => {
      // Timers come next, and with them the watch: before the owner has had its turn.
      setImmediate(() => {
        for (const untilMs = performance.now() + 500; performance.now() < untilMs; );
        setTimeout(resolve, 100) // several rounds later
      })
    })
    expect(stream.owned).toBe(true)
    clearImmediate(next)
    await eventually('it is disowned when nobody touches it', () => stream.hasEnded)
    stop.abort()
    await running
  })

  it('tries again what Redis refuses, and lets nobody here take it meanwhile', async () => {
    const seen: unknown[] = []
    const { ownership, stop, watch } = world(async (stream, withdrawals) => {
      seen.push([stream.owned, stream.signal.aborted, withdrawals.has(stream.idInLbs)])
      if (seen.length < 3) throw new StreamClientError('REDIS_ERROR', 'refused')
    })
    own(ownership, 's')
    const running = watch.run()
    await eventually('it was tried three times', () => seen.length === 3)
    stop.abort()
    await running
    expect(seen).toEqual([
      [false, true, true],
      [false, true, true],
      [false, true, true],
    ])
  })

  it('forgets what turns out to be another owner\u2019s', async () => {
    const tries: string[] = []
    const { ownership, stop, watch, withdrawals } = world(async ({ dataStreamName }) => {
      tries.push(dataStreamName)
      if (dataStreamName === 's') throw new StreamClientError('STREAM_NOT_OWNED', 'another owner has it')
    })
    const stream = own(ownership, 's')
    const running = watch.run()
    await eventually('it was tried', () => tries.length > 0 && !withdrawals.has(stream.idInLbs))
    own(ownership, 'another')
    await eventually('another one is given back', () => tries.includes('another'))
    stop.abort()
    await running
    expect(tries).toEqual(['s', 'another'])
  })
})
