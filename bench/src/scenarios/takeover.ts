/** How long after the kill of an owner the survivors are told, and own its streams. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addJobs, addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { addForeignKeys } from '../foreign-keys.js'
import { type Host, total, untilCounted } from '../host.js'
import type { JoinOptions } from '../host-protocol.js'
import { BARE, bare, bullmq, OURS, type Peer } from '../peers.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { TUNED_WORKER } from '../tuned-worker.js'

const TTL_MS = 2000
const FOREIGN_KEYS = 1_000_000
const SURVIVORS = 2
/** BullMQ's defaults: locks of 30 s, looked for every 30 s, moved when seen twice. */
const SLOW_PEER_TIMEOUT_MS = 120_000

/** Several services beside each other give several independent samples of one kill. */
interface Size {
  readonly streams: number
  readonly services: number
  readonly kills: number
}

const SIZES: readonly Size[] = [
  { streams: 1, services: 10, kills: 3 },
  { streams: 100, services: 3, kills: 2 },
  { streams: 1000, services: 1, kills: 2 },
]

const CONDITIONS = [
  { name: 'defaults', foreignKeys: false, settings: {} },
  { name: `beside ${FOREIGN_KEYS} foreign TTL keys`, foreignKeys: true, settings: {} },
  { name: 'keyspace events off', foreignKeys: false, settings: { keyspaceEvents: 'off' } },
] as const

export const takeover: Scenario = {
  name: 'takeover',
  about:
    'SIGKILL of the owner to StreamExpired and to owned again, with foreign TTL keys, without keyspace events',
  budgets: [{ of: 'SIGKILL to StreamExpired', statistic: 'p99', bound: 'at most', limit: TTL_MS + 500 }],
  limitMs: 8 * 60_000,
  run: async (bench) => {
    // Nearly all of it is waiting for a minute, so it may go on beside the rest.
    const slowPeer = bullmqDefaults()
    slowPeer.catch(() => undefined)
    for (const { foreignKeys, name, settings } of CONDITIONS) {
      await using sandbox = await Sandbox.open()
      if (foreignKeys) {
        bench.step(`adds ${FOREIGN_KEYS} foreign keys`)
        await addForeignKeys(sandbox.redis, FOREIGN_KEYS)
      }
      for (const size of SIZES) {
        bench.step(`${size.streams} streams, ${name}`)
        record(bench, size.streams, name, await killSome(sandbox, 'ours', size, { settings }))
      }
    }
    await peers(bench)
    const defaults = bullmq('defaults (lock 30 s, check every 30 s)')
    await attemptPeer(bench, 1, defaults, () => slowPeer)
  },
}

interface Delays {
  readonly toToldMs: number[]
  readonly toOwnedMs: number[]
}

function record(bench: BenchRun, streams: number, condition: string, { toToldMs, toOwnedMs }: Delays): void {
  bench.record({
    what: `SIGKILL to StreamExpired, ${streams} streams, ${condition}`,
    peer: OURS,
    unit: 'ms',
    better: 'lower',
    samples: toToldMs,
  })
  bench.record({
    what: `SIGKILL to owned again, ${streams} streams, ${condition}`,
    peer: OURS,
    unit: 'ms',
    better: 'lower',
    samples: toOwnedMs,
  })
}

async function attemptPeer(
  bench: BenchRun,
  streams: number,
  peer: Peer,
  measure: () => Promise<Delays>,
): Promise<void> {
  const what = `SIGKILL to owned again, ${streams} streams, defaults`
  await bench.attempt(what, peer, async () => {
    const { toOwnedMs } = await measure()
    bench.record({ what, peer, unit: 'ms', better: 'lower', samples: toOwnedMs })
  })
}

async function peers(bench: BenchRun): Promise<void> {
  const sizes = SIZES.filter(({ streams }) => streams !== 100)
  for (const size of sizes) {
    await attemptPeer(bench, size.streams, bullmq('lock 2 s, stalled check every 0.5 s'), async () => {
      await using sandbox = await Sandbox.open()
      const settings = { ...TUNED_WORKER, concurrency: size.streams }
      return await killSome(sandbox, 'bullmq', { ...size, kills: 2 }, { settings })
    })
  }
  for (const size of sizes) {
    const polling = bare('XAUTOCLAIM every second, idle 2 s', BARE.holding)
    await attemptPeer(bench, size.streams, polling, async () => {
      await using sandbox = await Sandbox.open()
      const owner = { settings: { readCount: 10, refreshMs: 500 } }
      const autoclaim = { everyMs: 1000, minIdleMs: TTL_MS, count: 100 }
      const survivor = { settings: { refreshMs: 500, autoclaim } }
      return await killSome(sandbox, 'bare', { ...size, kills: 2 }, owner, survivor)
    })
  }
}

async function bullmqDefaults(): Promise<Delays> {
  await using sandbox = await Sandbox.open()
  const size = { streams: 1, services: 10, kills: 1 }
  return await killSome(sandbox, 'bullmq', size, { settings: { maxStalledCount: 1000 } })
}

/** Kills one owner of all the services, as often as asked for; answers how long each stream's survivors took. */
async function killSome(
  sandbox: Sandbox,
  kind: 'ours' | 'bullmq' | 'bare',
  { kills, services, streams }: Size,
  owner: Omit<JoinOptions, 'service'>,
  survivor: Omit<JoinOptions, 'service'> = owner,
): Promise<Delays> {
  const delays: Delays = { toToldMs: [], toOwnedMs: [] }
  const hosts = await sandbox.hosts(kind, SURVIVORS)
  for (let kill = 0; kill < kills; kill++) {
    const names = Array.from({ length: services }, () => sandbox.newService())
    const victim = await sandbox.host(kind)
    for (const service of names) {
      if (kind === 'bullmq') await addJobs(sandbox.redis, service, streams)
      else await addStreams(sandbox.redis, service, streams)
    }
    await Promise.all(names.map((service) => victim.join(`${service}-owner`, { service, ...owner })))
    await untilCounted('the owner has all', [victim], () => total([victim], 'taken') >= streams * services)
    const members = names.flatMap((service) =>
      hosts.map((host, index) => ({ host, name: `${service}-${index}`, service })),
    )
    await Promise.all(members.map(({ host, name, service }) => host.join(name, { service, ...survivor })))
    await sleep(TTL_MS / 2 + Math.random() * 500)
    const isSurvivor = (member: string): boolean => members.some(({ name }) => name === member)
    const killedAtMs = victim.kill()
    await untilCounted(
      'all are owned again',
      hosts,
      () => total(hosts, 'taken', isSurvivor) >= streams * services,
      SLOW_PEER_TIMEOUT_MS,
    )
    await collectDelays(members, killedAtMs, delays)
    await Promise.all(members.map(({ host, name }) => host.leave(name)))
  }
  await Promise.all(hosts.map((host) => host[Symbol.asyncDispose]()))
  return delays
}

async function collectDelays(
  members: readonly { host: Host; name: string }[],
  killedAtMs: number,
  delays: Delays,
): Promise<void> {
  for (const { host, name } of members) {
    const { expiredAtMs, takenAtMs } = await host.times(name)
    delays.toToldMs.push(...expiredAtMs.map((atMs) => atMs - killedAtMs))
    delays.toOwnedMs.push(...takenAtMs.map((atMs) => atMs - killedAtMs))
  }
}
