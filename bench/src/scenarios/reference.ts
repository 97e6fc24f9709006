/** The reference in Go beside ours, where Go and its module can be had. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStream, addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { OURS } from '../figure.js'
import { GoPeer } from '../go-peer.js'
import { Host, total, untilCounted } from '../host.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'

const PEER = 'redis-stream-client-go, defaults'
const BACKLOG = 5000
const STREAMS = 1000
const PROBES = 100
const SETTLE_MS = 1500
const WINDOW_MS = 5000
/** It looks for what it missed every minute, at entries idle for half a minute. */
const TAKEOVER_TIMEOUT_MS = 150_000

/** Starts a host of one of the two on a server. */
type Start = (sandbox: Sandbox) => Promise<Host>

export const reference: Scenario = {
  name: 'reference',
  about: 'the reference in Go beside ours: backlog, latency, cost at rest, takeover',
  run: async (bench) => {
    bench.step('builds the peer')
    const built = await GoPeer.build()
    if (typeof built === 'string') {
      bench.note(`the reference in Go could not be measured: ${built}`)
      return
    }
    await using peer = built
    const ways: [string, Start][] = [
      [OURS, (sandbox) => sandbox.host('ours')],
      [PEER, (sandbox) => sandbox.adopt(Host.run(peer.program, [sandbox.url]))],
    ]
    for (const [name, start] of ways) await measure(bench, name, start)
  },
}

async function measure(bench: BenchRun, peer: string, start: Start): Promise<void> {
  bench.step(`${peer}: backlog`)
  const rate = await backlog(start)
  bench.record({ what: `backlog of ${BACKLOG} taken by one client`, peer, unit: 'streams/s', samples: rate })
  bench.step(`${peer}: latency`)
  bench.record({ what: 'XADD to StreamAdded', peer, unit: 'ms', samples: await latency(start) })
  bench.step(`${peer}: rest and takeover`)
  const { ownedAgainMs, redisMsPerSecond } = await rest(start)
  const of = `${STREAMS} streams`
  bench.record({ what: `Redis processor time to own ${of}`, peer, unit: 'ms/s', samples: redisMsPerSecond })
  bench.record({ what: `SIGKILL to all of ${of} owned again`, peer, unit: 'ms', samples: ownedAgainMs })
}

async function backlog(start: Start): Promise<number> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  await addStreams(sandbox.redis, service, BACKLOG)
  const host = await start(sandbox)
  await host.join('m0', { service })
  await untilCounted('the backlog is taken', [host], () => total([host], 'taken') >= BACKLOG, 120_000)
  const { takenAtMs } = await host.times('m0')
  return (BACKLOG / ((takenAtMs.at(-1) as number) - (takenAtMs[0] as number))) * 1000
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

async function rest(start: Start): Promise<{ ownedAgainMs: number; redisMsPerSecond: number }> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  await addStreams(sandbox.redis, service, STREAMS)
  const victim = await start(sandbox)
  await victim.join('m0', { service })
  await untilCounted('it owns all', [victim], () => total([victim], 'taken') >= STREAMS, 120_000)
  const survivor = await start(sandbox)
  await survivor.join('m1', { service })
  await sleep(SETTLE_MS)
  await sandbox.meter.begin()
  await sleep(WINDOW_MS)
  const { cpuMs } = await sandbox.meter.end()
  const killedAtMs = victim.kill()
  const isOwnedAgain = (): boolean => total([survivor], 'taken') >= STREAMS
  await untilCounted('all are owned again', [survivor], isOwnedAgain, TAKEOVER_TIMEOUT_MS)
  const ownedAgainMs = total([survivor], 'lastTakenAtMs') - killedAtMs
  return { ownedAgainMs, redisMsPerSecond: (cpuMs / WINDOW_MS) * 1000 }
}
