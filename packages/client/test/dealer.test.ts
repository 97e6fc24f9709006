/** Having entries dealt on a real server, with what the client does with them made up. */
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../src/decisions/clock.js'
import { formatConsumer } from '../src/decisions/consumer-name.js'
import { Dealer, type DealerContext } from '../src/ownership/dealer.js'
import { StreamIntake, type StreamIntakeContext } from '../src/ownership/stream-intake.js'
import type { ReadableEntry } from '../src/redis/lbs.js'
import { Retries } from '../src/session/retries.js'
import type { Session } from '../src/session/session.js'
import { ScriptedService } from './support/scripted-service.js'
import { silentLogger } from './support/silent-logger.js'

let service: ScriptedService
let session: Session
let from: string
let nowMs = 0
const signal = new AbortController().signal

beforeAll(async () => {
  service = await ScriptedService.start()
})
afterAll(() => service[Symbol.asyncDispose]())
beforeEach(async () => {
  await service.reset()
  const a = await service.session('a', 't1')
  session = { ...a, consumer: formatConsumer(a), isHeld: () => true, signal } as unknown as Session
})

/** Has a dead session leave these messages; answers the ids of the entries. */
async function leave(...messages: string[]): Promise<string[]> {
  const dead = await service.session('dead', 't0')
  from = formatConsumer(dead)
  for (const message of messages) await service.redis.xadd(service.keys.lbs, '*', 'lbs-input', message)
  const ids = await service.read(dead, messages.length)
  await service.kill(dead)
  return ids
}

function intake(
  take: (entries: readonly ReadableEntry[]) => Promise<[]>,
  onLeftPending = (): void => undefined,
) {
  const context = {
    session,
    signal,
    scripts: service.scripts,
    lbs: service.lbs,
    retries: new Retries(service.lbs, silentLogger),
    ownership: { capacity: 1000, whileReserved: (_places: number, act: () => Promise<unknown>) => act() },
    deliveries: { room: 1000 },
    taker: { take },
    deadLetters: { buryUnreadable: () => Promise.resolve() },
    clock: { now: () => ({ ...systemClock.now(), monotonicMs: nowMs }) },
    claimStaggerMs: 200,
    heartbeatTtlMs: 2000,
    lbsIdleTimeMs: 40_000,
    onGone: () => undefined,
    onLeftPending,
  }
  const dealer = new Dealer(context as unknown as DealerContext)
  return new StreamIntake({ ...context, dealer } as unknown as StreamIntakeContext)
}

it('counts entries that cannot be taken among those that do not wait any more', async () => {
  const ids = await leave('nonsense', '{"DataStreamName":"gone"}', '{"DataStreamName":"s"}')
  await service.redis.xdel(service.keys.lbs, ids[1] as string)
  const given: string[] = []
  const taken = await intake((entries) => {
    given.push(...entries.map(({ id }) => id))
    return Promise.resolve([])
  }).takeDealt({ from, count: 10 })
  expect(given).toEqual([ids[2]])
  expect(taken).toMatchObject({ handled: 3, mayBeMore: false })
})

it('says that something is left over when what it was dealt cannot be taken', async () => {
  await leave('{"DataStreamName":"s"}')
  let leftOver = 0
  const refused = new Error('refused')
  const taking = intake(
    () => Promise.reject(refused),
    () => leftOver++,
  ).takeDealt({ from, count: 10 })
  await expect(taking).rejects.toBe(refused)
  expect((await service.pending()).map(([, consumer]) => consumer)).toEqual([session.consumer])
  expect(leftOver).toBe(1)
})

it('has fewer dealt at once when that takes long, since the heartbeats of all wait as long', async () => {
  await leave('{"DataStreamName":"s"}', '{"DataStreamName":"t"}')
  let tookMs = 500
  const slow = intake(() => {
    nowMs += tookMs
    return Promise.resolve([])
  })
  expect(slow.dealRoom).toBe(50)
  await slow.takeDealt({ from, count: 1 })
  expect(slow.dealRoom).toBe(25)
  tookMs = 1
  await slow.takeDealt({ from, count: 1 })
  expect(slow.dealRoom).toBe(50)
})
