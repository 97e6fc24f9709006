/** What an owned stream costs in memory, and whether a million of them leave anything behind. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addJobs, addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { type Host, total, untilCounted } from '../host.js'
import { bullmq, OURS } from '../peers.js'
import { Sandbox } from '../sandbox.js'
import type { Scenario } from '../scenario.js'

const OWNED = 100_000
const JOBS = 10_000
const CHURNED = 1_000_000
const WAVE = 20_000
const NODE_ARGS = ['--expose-gc']
/** A megabyte: less than one byte for each of the million. */
const LEAK_BUDGET_KB = 1000
const PER_STREAM = `heap per owned stream at ${OWNED}`
const CHURN = `${CHURNED} streams added, owned, done`
const JOBS_IN_PROGRESS = bullmq(`${JOBS} jobs in progress`)

export const memory: Scenario = {
  name: 'memory',
  about: `heap per owned stream at ${OWNED}; heap after ${CHURNED} streams added, owned, done`,
  budgets: [
    { of: `${PER_STREAM}, no signal read`, statistic: 'max', bound: 'at most', limit: 0.7 * 1024 },
    { of: `${PER_STREAM}, every signal read`, statistic: 'max', bound: 'at most', limit: 1.5 * 1024 },
    { of: `${CHURN}: heap left over`, statistic: 'max', bound: 'at most', limit: LEAK_BUDGET_KB },
  ],
  limitMs: 8 * 60_000,
  run: async (bench) => {
    await owned(bench)
    await bench.attempt(`${PER_STREAM}, no signal read`, JOBS_IN_PROGRESS, () => jobs(bench))
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
    what: `${PER_STREAM}, no signal read`,
    peer: OURS,
    unit: 'bytes',
    better: 'lower',
    samples: (held.heapUsed - before.heapUsed) / OWNED,
  })
  bench.record({
    what: `${PER_STREAM}, every signal read`,
    peer: OURS,
    unit: 'bytes',
    better: 'lower',
    samples: (signalled.heapUsed - before.heapUsed) / OWNED,
  })
  bench.record({
    what: `resident memory per owned stream at ${OWNED}, no signal read`,
    peer: OURS,
    unit: 'bytes',
    better: 'lower',
    samples: (held.rss - before.rss) / OWNED,
  })
}

async function jobs(bench: BenchRun): Promise<void> {
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
    what: `${PER_STREAM}, no signal read`,
    peer: JOBS_IN_PROGRESS,
    unit: 'bytes',
    better: 'lower',
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
  bench.record({
    what: `${CHURN}: heap left over`,
    peer: OURS,
    unit: 'KB',
    better: 'lower',
    samples: (after.heapUsed - before.heapUsed) / 1024,
  })
  bench.record({
    what: `${CHURN}: Redis memory left over`,
    peer: OURS,
    unit: 'KB',
    better: 'lower',
    samples: (redisAfter - redisBefore) / 1024,
  })
  bench.record({
    what: CHURN,
    peer: OURS,
    unit: 'streams/s',
    better: 'higher',
    samples: (CHURNED - WAVE) / seconds,
  })
}

async function wave(sandbox: Sandbox, service: string, host: Host, first: number): Promise<void> {
  await addStreams(sandbox.redis, service, WAVE, first)
  await untilCounted('all are done', [host], () => total([host], 'done') >= first + WAVE, 120_000)
}

async function usedMemory(sandbox: Sandbox): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await sandbox.redis.info('memory'))?.[1])
}
