/**
 * `npm run soak -- MINUTES`: a fleet under steady load whose hosts are killed, stopped and closed at random. At the
 * end nothing may be lost or owned twice; heap, handles and Redis memory must have stayed flat. Exit code 1 if not.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { addStreams } from './assignments.js'
import { flatnessOf } from './flatness.js'
import { Progress } from './progress.js'
import { formatNumber } from './results-table.js'
import { readAudit } from './soak-audit.js'
import { SoakFleet, type SoakSample } from './soak-fleet.js'

const SERVICE = 'soak'
const STREAMS_PER_TICK = 100
const TICK_MS = 1000
const TROUBLE_EVERY_MS = 6000
const SAMPLE_EVERY_MS = 5000
const DRAIN_TIMEOUT_MS = 60_000
const SLACK: Readonly<Record<keyof SoakSample, number>> = { heapMb: 3, handles: 2, redisMb: 1 }

const minutes = Number(process.argv[2] ?? 5)
if (minutes > 0) {
  process.exitCode = (await soak(minutes * 60_000)) ? 0 : 1
} else {
  process.stderr.write('npm run soak -- MINUTES\n')
  process.exitCode = 2
}

/** Resolves with whether all was well. */
async function soak(durationMs: number): Promise<boolean> {
  await using server = await RedisServer.start()
  await using auditServer = await RedisServer.start()
  const progress = new Progress()
  const settings = { auditUrl: auditServer.url, greatestWorkMs: 4000, stepMs: 500 }
  await using fleet = await SoakFleet.start(server, SERVICE, settings)
  const { added, samples } = await load(server, fleet, durationMs, progress)
  progress.show('soak: waits until everything is done')
  const left = await drain(server)
  const { finished, violations } = await readAudit(auditServer.client())
  progress.clear()

  const problems = grown(samples)
  if (left > 0) problems.push(`${left} entries are left after ${DRAIN_TIMEOUT_MS} ms`)
  if (finished !== added) problems.push(`${added} streams were added, ${finished} finished`)
  if (violations.length > 0) problems.push(`owned twice: ${violations.slice(0, 5).join(', ')}`)
  say(`${added} streams added, ${finished} finished, ${violations.length} owned twice; ${fleet.troubles}`)
  for (const problem of problems) say(`PROBLEM: ${problem}`)
  if (problems.length === 0) say('Nothing was lost, nothing owned twice, nothing grew.')
  return problems.length === 0
}

/** Adds streams, makes trouble, looks, until the time is over. */
async function load(
  server: RedisServer,
  fleet: SoakFleet,
  durationMs: number,
  progress: Progress,
): Promise<{ added: number; samples: SoakSample[] }> {
  const redis = server.client()
  const samples: SoakSample[] = []
  const startMs = performance.now()
  let nextTroubleMs = startMs + TROUBLE_EVERY_MS
  let nextSampleMs = startMs
  let trouble: Promise<void> = Promise.resolve()
  let added = 0
  for (let nowMs = startMs; nowMs < startMs + durationMs; nowMs = performance.now()) {
    await addStreams(redis, SERVICE, STREAMS_PER_TICK, added)
    added += STREAMS_PER_TICK
    if (nowMs >= nextTroubleMs) {
      nextTroubleMs = nowMs + TROUBLE_EVERY_MS
      trouble = trouble.then(() => fleet.makeTrouble())
    }
    if (nowMs >= nextSampleMs) {
      nextSampleMs = nowMs + SAMPLE_EVERY_MS
      const sample = await fleet.sample()
      samples.push(sample)
      progress.show(`soak: ${added} added; ${fleet.troubles}; ${describe(sample)}`)
    }
    await sleep(TICK_MS)
  }
  await trouble
  return { added, samples }
}

/** Waits until the LBS is empty; answers what is left of it at the deadline. */
async function drain(server: RedisServer): Promise<number> {
  const redis = server.client()
  const untilMs = performance.now() + DRAIN_TIMEOUT_MS
  for (;;) {
    const left = await redis.xlen(`${SERVICE}-input`)
    if (left === 0 || performance.now() > untilMs) return left
    await sleep(100)
  }
}

function grown(samples: readonly SoakSample[]): string[] {
  const problems: string[] = []
  for (const what of ['heapMb', 'handles', 'redisMb'] as const) {
    const values = samples.map((sample) => sample[what])
    const { earlyMean, isFlat, lateMean } = flatnessOf(values, SLACK[what])
    const line = `${what}: ${formatNumber(earlyMean)} in the second third, ${formatNumber(lateMean)} in the last`
    say(line)
    if (!isFlat) problems.push(`not flat, ${line}`)
  }
  return problems
}

function describe({ handles, heapMb, redisMb }: SoakSample): string {
  return `heap ${formatNumber(heapMb)} MB, ${handles} handles, Redis ${formatNumber(redisMb)} MB`
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
