/** How the costs grow with the number of clients and of streams: what the plots are drawn from. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { OURS } from '../figure.js'
import { total, untilCounted } from '../host.js'
import { totalCalls } from '../redis-meter.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'
import { countSent } from '../sent-commands.js'
import { joinAll, takeOver } from './mass-takeover.js'

const CLIENTS = [1, 10, 50, 200]
const STREAMS = [100, 1000, 10_000, 100_000]
const STREAMS_AMONG_CLIENTS = 1000
const CLIENTS_AMONG_STREAMS = 9
const HOSTS = 4
const WINDOW_MS = 4000
const SETTLE_MS = 2000

export const growth: Scenario = {
  name: 'growth',
  about: 'takeover time, probe and heartbeat cost by number of clients and of streams',
  run: async (bench) => {
    for (const clients of CLIENTS) await rest(bench, clients)
    for (const clients of CLIENTS) {
      bench.step(`takeover by ${clients} clients`)
      const { ownedAgainMs, work } = await takeOver(
        STREAMS_AMONG_CLIENTS,
        clients,
        Math.min(HOSTS, clients),
        auto(),
      )
      const of = `${STREAMS_AMONG_CLIENTS} streams by ${clients} clients`
      const common = { peer: OURS, x: clients }
      bench.record({ what: `takeover of ${of}`, unit: 'ms', samples: ownedAgainMs, ...common })
      const perStream = totalCalls(work.calls) / STREAMS_AMONG_CLIENTS
      bench.record({
        what: `commands per stream, takeover of ${of}`,
        unit: '',
        samples: perStream,
        ...common,
      })
    }
    for (const streams of STREAMS) {
      bench.step(`takeover of ${streams} streams`)
      const { ownedAgainMs } = await takeOver(streams, CLIENTS_AMONG_STREAMS, HOSTS, auto())
      const what = `takeover of ${streams} streams by ${CLIENTS_AMONG_STREAMS} clients`
      bench.record({ what, peer: OURS, unit: 'ms', samples: ownedAgainMs, x: streams })
    }
  },
}

function auto(): { settings: { claimMode: string } } {
  return { settings: { claimMode: 'auto' } }
}

/** A fleet that has nothing to do: what heartbeats, probes and waiting reads cost. */
async function rest(bench: BenchRun, clients: number): Promise<void> {
  bench.step(`${clients} clients at rest`)
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const hosts = await sandbox.hosts('ours', Math.min(HOSTS, clients))
  await joinAll(hosts, clients, { service })
  await addStreams(sandbox.redis, service, STREAMS_AMONG_CLIENTS)
  await untilCounted('all are owned', hosts, () => total(hosts, 'taken') >= STREAMS_AMONG_CLIENTS)
  await sleep(SETTLE_MS)
  await sandbox.meter.begin()
  const sent = await countSent(sandbox.server, WINDOW_MS)
  const work = await sandbox.meter.end()
  const record = (what: string, unit: string, amount: number): void =>
    bench.record({
      what: `${what}, ${clients} clients at rest`,
      peer: OURS,
      unit,
      samples: amount,
      x: clients,
    })
  record('commands sent', '/s', (sent.commands / WINDOW_MS) * 1000)
  record('heartbeats sent per client', '/s', (sent.heartbeats / clients / WINDOW_MS) * 1000)
  record(
    'probe scripts that read the roster',
    '/s',
    ((work.calls['xinfo|consumers'] ?? 0) / WINDOW_MS) * 1000,
  )
  record('Redis processor time', 'ms/s', (work.cpuMs / WINDOW_MS) * 1000)
}
