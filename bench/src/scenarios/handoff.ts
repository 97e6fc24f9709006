/** A deploy: a client with many streams closes, and the others have them. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { type Host, latest, total, untilCounted } from '../host.js'
import { BARE, bare, OURS } from '../peers.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'

const STREAMS = 1000
const RUNS = 12
const SETTLE_MS = 300
const CLAIM_BATCH = 50

export const handoff: Scenario = {
  name: 'handoff',
  about: `close() of a client with ${STREAMS} streams until all are owned elsewhere`,
  budgets: [{ of: 'close() with', statistic: 'p99', bound: 'at most', limit: 600 }],
  limitMs: 4 * 60_000,
  run: async (bench) => {
    for (const onStream of ['hold-and-listen', 'hold'] as const) await ours(bench, onStream)
    await limit(bench)
  },
}

async function ours(bench: BenchRun, onStream: 'hold' | 'hold-and-listen'): Promise<void> {
  await using sandbox = await Sandbox.open()
  const leaver = await sandbox.host('ours')
  const hosts = await sandbox.hosts('ours', 2)
  const samples: number[] = []
  for (let run = 1; run <= RUNS; run++) {
    bench.step(`${onStream} (${run} of ${RUNS})`)
    samples.push(await closeOne(sandbox, leaver, hosts, onStream))
  }
  const how = onStream === 'hold' ? 'nobody reads the signals' : 'each owner releases when its signal aborts'
  bench.record({
    what: `close() with ${STREAMS} streams to all owned elsewhere, ${how}`,
    peer: OURS,
    unit: 'ms',
    better: 'lower',
    samples,
  })
}

async function closeOne(
  sandbox: Sandbox,
  leaver: Host,
  hosts: readonly Host[],
  onStream: 'hold' | 'hold-and-listen',
): Promise<number> {
  const service = sandbox.newService()
  const leaving = `${service}-leaver`
  const stayers = hosts.map((host, index) => ({ host, name: `${service}-${index}` }))
  const isStayer = (member: string): boolean => stayers.some(({ name }) => name === member)
  await addStreams(sandbox.redis, service, STREAMS)
  await leaver.join(leaving, { service, onStream })
  await untilCounted('it owns all', [leaver], () => (leaver.counts.get(leaving)?.taken ?? 0) >= STREAMS)
  await Promise.all(stayers.map(({ host, name }) => host.join(name, { service })))
  await sleep(SETTLE_MS)
  const startMs = sharedNowMs()
  const left = leaver.leave(leaving)
  await untilCounted('all are owned elsewhere', hosts, () => total(hosts, 'taken', isStayer) >= STREAMS)
  const tookMs = latest(hosts, 'lastTakenAtMs') - startMs
  await Promise.all([left, ...stayers.map(({ host, name }) => host.leave(name))])
  return tookMs
}

/** The limit: two connections that know what to take claim it in batches, and nothing else. */
async function limit(bench: BenchRun): Promise<void> {
  await using sandbox = await Sandbox.open()
  const { redis } = sandbox
  const samples: number[] = []
  for (let run = 1; run <= RUNS; run++) {
    const service = sandbox.newService()
    const [lbs, group] = [`${service}-input`, `${service}-group`]
    await redis.xgroup('CREATE', lbs, group, '0', 'MKSTREAM')
    await addStreams(redis, service, STREAMS)
    await redis.xreadgroup('GROUP', group, 'leaver', 'COUNT', STREAMS, 'STREAMS', lbs, '>')
    const ids = ((await redis.xpending(lbs, group, '-', '+', STREAMS)) as [id: string][]).map(([id]) => id)
    const startMs = sharedNowMs()
    for (let start = 0; start < ids.length; start += CLAIM_BATCH) {
      await redis.xclaim(lbs, group, 'stayer', 0, ...ids.slice(start, start + CLAIM_BATCH))
    }
    samples.push(sharedNowMs() - startMs)
  }
  bench.record({
    what: `close() with ${STREAMS} streams to all owned elsewhere, nobody reads the signals`,
    peer: bare(`XCLAIM, ${CLAIM_BATCH} at a time`, BARE.claiming),
    unit: 'ms',
    better: 'lower',
    samples,
  })
}
