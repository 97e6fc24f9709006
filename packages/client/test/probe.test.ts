/** What the winner of a round announces, with the roster made up. */
import { expect, it } from 'vitest'
import { FleetView } from '../src/agents/fleet-view.js'
import { Probe, type ProbeContext } from '../src/agents/probe.js'
import { systemClock } from '../src/decisions/clock.js'
import type { WaitingMessage } from '../src/decisions/failover-message.js'
import type { RosterLine, ServiceScripts } from '../src/redis/service-scripts.js'
import { resolveServiceKeys } from '../src/service-keys.js'
import { silentLogger } from './support/silent-logger.js'

const INTERVAL_MS = 60_000
const patient = { timeout: 10_000 }

function line(consumer: string, facts: Partial<RosterLine>): RosterLine {
  return {
    consumer,
    pending: 10,
    isAlive: true,
    ttlMs: -2,
    opensInMs: 0,
    ageMs: INTERVAL_MS,
    facts: { maxOwnedStreams: Number.POSITIVE_INFINITY, weight: 1, heartbeatTtlMs: 2000, restarts: 0 },
    ...facts,
  }
}

/** Plays one round of a client, or its probe after a hint. Answers which consumers it has announced. */
async function announcedOf(roster: readonly RosterLine[], isHint = false): Promise<string[]> {
  const announced: string[] = []
  const stop = new AbortController()
  let hasAnswered = false
  const { hintProbe } = resolveServiceKeys('orders', { onCluster: false })
  const scripts = {
    probe: (_client: string, _ms: number, key?: string) => {
      if ((key === hintProbe) !== isHint) return Promise.resolve({ level: '' })
      hasAnswered = true
      return Promise.resolve({ lines: roster, undelivered: 0 })
    },
  }
  const session = { clientId: 'redis-consumer-a', consumer: 'redis-consumer-a:t', isHeld: () => true }
  const probe = new Probe({
    session,
    signal: stop.signal,
    scripts: scripts as unknown as ServiceScripts,
    connection: { run: () => Promise.resolve() },
    keys: resolveServiceKeys('orders', { onCluster: false }),
    probeIntervalMs: INTERVAL_MS,
    lbsIdleTimeMs: INTERVAL_MS,
    clock: systemClock,
    recorder: { probe: () => undefined },
    logger: silentLogger,
    view: new FleetView(systemClock),
    onWaiting: ({ consumer }: WaitingMessage) => announced.push(consumer),
    onRound: () => Promise.resolve(),
    onRoster: () => Promise.resolve(),
    onWon: () => Promise.resolve(),
  } as unknown as ProbeContext)
  const running = probe.run()
  if (isHint) probe.hearExpired()
  await expect.poll(() => hasAnswered, patient).toBe(true)
  await new Promise(setImmediate)
  stop.abort()
  await running
  return announced
}

const own = line('redis-consumer-a:t', {})
const dead = (count: number): RosterLine[] =>
  Array.from({ length: count }, (_, index) => line(`redis-consumer-dead-${index}:t`, { isAlive: false }))
const crowd = Array.from({ length: 1000 }, (_, index) => line(`redis-consumer-${index}:t`, {}))

it('a dead session is announced, but not while the next one of its client takes back what it has left', async () => {
  const left = line('redis-consumer-b:1', { isAlive: false })
  const next = (facts: Partial<RosterLine>) => line('redis-consumer-b:2', { pending: 0, ...facts })
  expect(await announcedOf([own, left])).toEqual(['redis-consumer-b:1'])
  expect(await announcedOf([own, left, next({ ageMs: 0 })])).toEqual([])
  expect(await announcedOf([own, left, next({ ageMs: INTERVAL_MS })])).toEqual(['redis-consumer-b:1'])
  // One that crashes again and again is given nothing for now.
  const facts = { ...own.facts, restarts: 2 }
  expect(await announcedOf([own, left, next({ ageMs: 0, facts })])).toEqual(['redis-consumer-b:1'])
})

it('of many that died at once, a round announces some, and a probe after a hint leaves them to the round', async () => {
  expect(await announcedOf([...crowd, ...dead(100)])).toHaveLength(16)
  expect(await announcedOf([...crowd, ...dead(100)], true)).toEqual([])
  expect(await announcedOf([...crowd, ...dead(16)], true)).toHaveLength(16)
  // Those that are alive now may be the first of a crowd that comes back.
  expect(await announcedOf([own, ...dead(1000)])).toHaveLength(125)
})

it('where there are few clients, all the dead are announced at once', async () => {
  expect(await announcedOf([own, ...dead(50)])).toHaveLength(50)
  expect(await announcedOf([own, ...dead(50)], true)).toHaveLength(50)
})
