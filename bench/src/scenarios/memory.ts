/** What an owned stream costs in memory, and whether a million of them leave anything behind. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addJobs, addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { OURS } from '../figure.js'
import { type Host, total, untilCounted } from '../host.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'

const OWNED = 100_000
const JOBS = 10_000
const CHURNED = 1_000_000
const WAVE = 20_000
const NODE_ARGS = ['--expose-gc']
/** A megabyte: less than one byte for each of the million. */
const LEAK_BUDGET_KB = 1000

export const memory: Scenario = {
  name: 'memory',
  about: `heap per owned stream at ${OWNED}; heap after ${CHURNED} streams added, owned, done`,
  run: async (bench) => {
    await owned(bench)
    await jobs(bench)
    await churn(bench)
  },
}

async function owned(bench: BenchRun): Promise<void> {
  bench.step(`owns ${OWNED}`)
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const host = await sandbox.host('ours', NODE_ARGS)
  await host.join('m0', { service, keepsTimes: false })
  const before = await host.collect()
  await addStreams(sandbox.redis, service, OWNED)
  await untilCounted('all are owned', [host], () => total([host], 'taken') >= OWNED, 120_000)
  await sleep(500)
  const held = await host.collect()
  await host.readSignals('m0')
  const signalled = await host.collect()
  bench.record({
    what: `heap per owned stream at ${OWNED}, no signal read`,
    peer: OURS,
    unit: 'bytes',
    samples: (held.heapUsed - before.heapUsed) / OWNED,
    budget: { statistic: 'max', bound: 'at most', limit: 0.7 * 1024 },
  })
  bench.record({
    what: `heap per owned stream at ${OWNED}, every signal read`,
    peer: OURS,
    unit: 'bytes',
    samples: (signalled.heapUsed - before.heapUsed) / OWNED,
    budget: { statistic: 'max', bound: 'at most', limit: 1.5 * 1024 },
  })
  bench.record({
    what: `resident memory per owned stream at ${OWNED}, no signal read`,
    peer: OURS,
    unit: 'bytes',
    samples: (held.rss - before.rss) / OWNED,
  })
}

async function jobs(bench: BenchRun): Promise<void> {
  bench.step(`BullMQ with ${JOBS} jobs in progress`)
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const host = await sandbox.host('bullmq', NODE_ARGS)
  await host.join('m0', { service, keepsTimes: false, settings: { concurrency: JOBS } })
  const before = await host.collect()
  await addJobs(sandbox.redis, service, JOBS)
  await untilCounted('all are active', [host], () => total([host], 'taken') >= JOBS, 120_000)
  await sleep(500)
  const held = await host.collect()
  bench.record({
    what: `heap per owned stream at ${OWNED}, no signal read`,
    peer: `BullMQ, ${JOBS} jobs in progress`,
    unit: 'bytes',
    samples: (held.heapUsed - before.heapUsed) / JOBS,
  })
}

async function churn(bench: BenchRun): Promise<void> {
  await using sandbox = await Sandbox.open()
  const service = sandbox.newService()
  const host = await sandbox.host('ours', NODE_ARGS)
  await host.join('m0', { service, keepsTimes: false, onStream: 'done' })
  await wave(sandbox, service, host, 0)
  const before = await host.collect()
  const redisBefore = await usedMemory(sandbox)
  const startMs = performance.now()
  for (let done = WAVE; done < CHURNED; done += WAVE) {
    bench.step(`${done} of ${CHURNED} added, owned, done`)
    await wave(sandbox, service, host, done)
  }
  const seconds = (performance.now() - startMs) / 1000
  const after = await host.collect()
  const redisAfter = await usedMemory(sandbox)
  const of = `${CHURNED} streams added, owned, done`
  bench.record({
    what: `${of}: heap left over`,
    peer: OURS,
    unit: 'KB',
    samples: (after.heapUsed - before.heapUsed) / 1024,
    budget: { statistic: 'max', bound: 'at most', limit: LEAK_BUDGET_KB },
  })
  bench.record({
    what: `${of}: Redis memory left over`,
    peer: OURS,
    unit: 'KB',
    samples: (redisAfter - redisBefore) / 1024,
  })
  bench.record({ what: `${of}`, peer: OURS, unit: 'streams/s', samples: (CHURNED - WAVE) / seconds })
}

async function wave(sandbox: Sandbox, service: string, host: Host, first: number): Promise<void> {
  await addStreams(sandbox.redis, service, WAVE, first)
  await untilCounted('all are done', [host], () => total([host], 'done') >= first + WAVE, 120_000)
}

async function usedMemory(sandbox: Sandbox): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await sandbox.redis.info('memory'))?.[1])
}
