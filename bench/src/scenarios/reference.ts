/**
 * The reference in Go beside ours, where Go and its module can be had.
 *
 * Both join before anything is added, because the reference begins its group at the end of the LBS. What a client has
 * taken is read from the pending list, because its notifications do not say it: after Claim comes none. Streams that
 * nobody takes are a result like any other.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStream, addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { addForeignKeys } from '../foreign-keys.js'
import { GO_VERSION, GoPeer } from '../go-peer.js'
import { Host, total, untilCounted } from '../host.js'
import { OURS, type Peer } from '../peers.js'
import { heldByConsumer, untilHeldByOthers } from '../pending.js'
import { totalCalls } from '../redis-meter.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'

const REFERENCE: Peer = {
  name: `redis-stream-client-go ${GO_VERSION}, defaults`,
  differs: 'no fence, no checkpoint, a lock for each stream',
}
const BACKLOG = 5000
const STREAMS = 1000
const MANY_STREAMS = 10_000
const FOREIGN_KEYS = 100_000
const PROBES = 100
const SETTLE_MS = 1500
const WINDOW_MS = 5000
const TAKEN_TIMEOUT_MS = 60_000
/** The reference looks for what it has missed every minute, at entries that were idle for half a minute. */
const TAKEOVER_LIMIT_MS = 100_000
const LOST = 'streams of a killed owner that nobody had taken'

const CONDITIONS = [
  { name: 'alone', foreignKeys: 0 },
  { name: `beside ${FOREIGN_KEYS} foreign TTL keys`, foreignKeys: FOREIGN_KEYS },
] as const

/** Starts a host of one of the two on a server. */
type Start = (sandbox: Sandbox) => Promise<Host>

export const reference: Scenario = {
  name: 'reference',
  about: 'the reference in Go beside ours: backlog, latency, cost at rest, takeover',
  budgets: [{ of: LOST, statistic: 'max', bound: 'at most', limit: 0 }],
  limitMs: 15 * 60_000,
  run: async (bench) => {
    bench.step('builds the peer')
    const built = await GoPeer.build()
    if (typeof built === 'string') bench.note(`the reference in Go could not be measured: ${built}`)
    await using peer = typeof built === 'string' ? undefined : built
    const ways: [Peer, Start][] = [[OURS, (sandbox) => sandbox.host('ours')]]
    if (peer !== undefined) {
      ways.push([REFERENCE, (sandbox) => sandbox.adopt(Host.run(peer.program, [sandbox.url]))])
    }
    for (const [who, start] of ways) await measure(bench, who, start)
  },
}

async function measure(bench: BenchRun, peer: Peer, start: Start): Promise<void> {
  const record = (
    what: string,
    unit: string,
    better: 'lower' | 'higher',
    samples: number | readonly number[],
  ) => bench.record({ what, peer, unit, better, samples })
  const attempt = (what: string, act: () => Promise<void>) => bench.attempt(what, peer, act)

  const rate = `${BACKLOG} streams added to one waiting client`
  await attempt(rate, async () => record(rate, 'streams/s', 'higher', await takeBacklog(start)))
  const way = 'XADD to StreamAdded'
  await attempt(way, async () => record(way, 'ms', 'lower', await latency(start)))
  const resident = 'resident memory of a client without streams'
  await attempt(resident, async () => record(resident, 'MB', 'lower', await residentMb(start)))
  for (const streams of [STREAMS, MANY_STREAMS]) {
    await attempt(`to own ${streams} streams`, async () => {
      const { callsPerSecond, redisMsPerSecond } = await rest(start, streams)
      record(`Redis processor time to own ${streams} streams`, 'ms/s', 'lower', redisMsPerSecond)
      record(`commands in Redis to own ${streams} streams`, '/s', 'lower', callsPerSecond)
    })
  }
  for (const { foreignKeys, name } of CONDITIONS) {
    await attempt(`takeover of ${STREAMS} streams, ${name}`, async () => {
      const { lost, ownedAgainMs } = await takeOver(start, foreignKeys)
      record(`${LOST} after ${TAKEOVER_LIMIT_MS / 1000} s, of ${STREAMS}, ${name}`, '', 'lower', lost)
      const what = `SIGKILL to the last that was taken of ${STREAMS} streams, ${name}`
      if (lost < STREAMS) record(what, 'ms', 'lower', ownedAgainMs)
    })
  }
}

async function takeBacklog(start: Start): Promise<number> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const host = await start(sandbox)
  await host.join('m0', { service })
  const addedAtMs = sharedNowMs()
  await addStreams(sandbox.redis, service, BACKLOG)
  await untilCounted('all are taken', [host], () => total([host], 'taken') >= BACKLOG, TAKEN_TIMEOUT_MS)
  return (BACKLOG / (total([host], 'lastTakenAtMs') - addedAtMs)) * 1000
}

async function latency(start: Start): Promise<readonly number[]> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const host = await start(sandbox)
  await host.join('m0', { service })
  for (let i = 0; i < PROBES; i++) {
    await addStream(sandbox.redis, service, `s${i}`, { sentAtMs: sharedNowMs() })
    await sleep(10)
  }
  await untilCounted('all are taken', [host], () => total([host], 'taken') >= PROBES)
  return (await host.times('m0')).latencyMs
}

async function residentMb(start: Start): Promise<number> {
  await using sandbox = await Sandbox.open()
  const host = await start(sandbox)
  await host.join('m0', { service: sandbox.newService() })
  await sleep(SETTLE_MS)
  return (await host.collect()).rss / 2 ** 20
}

async function rest(
  start: Start,
  streams: number,
): Promise<{ callsPerSecond: number; redisMsPerSecond: number }> {
  await using sandbox = await Sandbox.open()
  await ownAll(sandbox, start, sandbox.newService(), streams)
  await sleep(SETTLE_MS)
  await sandbox.meter.begin()
  await sleep(WINDOW_MS)
  const { calls, cpuMs, overMs } = await sandbox.meter.end()
  return {
    callsPerSecond: (totalCalls(calls) / overMs) * 1000,
    redisMsPerSecond: (cpuMs / overMs) * 1000,
  }
}

async function takeOver(start: Start, foreignKeys: number): Promise<{ lost: number; ownedAgainMs: number }> {
  await using sandbox = await Sandbox.open()
  const { redis } = sandbox
  const service = sandbox.newService()
  await addForeignKeys(redis, foreignKeys)
  const victim = await ownAll(sandbox, start, service, STREAMS)
  const formers = new Set((await heldByConsumer(redis, service)).keys())
  const survivor = await start(sandbox)
  await survivor.join('m1', { service })
  await sleep(SETTLE_MS)
  const killedAtMs = victim.kill()
  const timeoutMs = TAKEOVER_LIMIT_MS
  const { count, lastAtMs } = await untilHeldByOthers(redis, service, { formers, goal: STREAMS, timeoutMs })
  return { lost: STREAMS - count, ownedAgainMs: lastAtMs - killedAtMs }
}

/** A client that has taken that many streams, each seen in the pending list. */
async function ownAll(sandbox: Sandbox, start: Start, service: string, streams: number): Promise<Host> {
  const host = await start(sandbox)
  await host.join('m0', { service })
  await addStreams(sandbox.redis, service, streams)
  const all = { formers: new Set<string>(), goal: streams, timeoutMs: TAKEN_TIMEOUT_MS }
  const { count } = await untilHeldByOthers(sandbox.redis, service, all)
  if (count < streams) throw new Error(`it had taken ${count} of ${streams} after ${TAKEN_TIMEOUT_MS} ms`)
  return host
}
