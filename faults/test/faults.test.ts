/** The short version of `npm run faults`, with fixed seeds, and the proof that it can fail. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SeededRandom } from '@redis-stream-client/test/support/seeded-random'
import { describe, expect, test } from 'vitest'
import { FAULTS } from '../src/nemesis.js'
import { run } from '../src/run.js'
import { copyWeakened, runWeakened, WEAKENINGS } from '../src/weakenings.js'
import { World } from '../src/world.js'

const TIMEOUT_MS = 180_000

function weakening(name: string): (typeof WEAKENINGS)[number] {
  const found = WEAKENINGS.find((each) => each.name === name)
  if (found === undefined) throw new Error(`there is no weakening ${name}`)
  return found
}

describe('a fleet at work', () => {
  test('keeps what is promised whatever fails', { timeout: TIMEOUT_MS }, async () => {
    const report = await run({ seed: 20_261, durationMs: 24_000 })
    expect(report.violations).toEqual([])
    expect(report.counts['done']).toBeGreaterThanOrEqual(report.counts['added'] ?? Number.NaN)
  })

  test('keeps what is promised for a Redis that loses what it has answered', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const report = await run({ seed: 20_262, durationMs: 10_000, withLosses: true })
    expect(report.violations).toEqual([])
  })
})

describe('a fleet that grows and shrinks', () => {
  test('shares its streams evenly in the end and then moves none, whatever fails meanwhile', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const report = await run({ seed: 20_266, durationMs: 20_000, work: 'shares' })
    expect(report.violations).toEqual([])
    expect(report.counts['done']).toBe(report.counts['streams'])
    expect(report.counts['streams']).toBeGreaterThan(0)
  })
})

describe('a fleet of workers', () => {
  test('handles every record in order, none twice but what was not committed, whatever fails', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const report = await run({ seed: 20_264, durationMs: 16_000, work: 'records' })
    expect(report.violations).toEqual([])
    expect(report.counts['added']).toBeGreaterThan(100)
    expect(report.counts['done']).toBe(report.counts['added'])
    // Streams have changed hands, or nothing was tested.
    expect(report.counts['owners']).toBeGreaterThan(report.counts['streams'] ?? Number.NaN)
  })

  test('keeps the order of records for a Redis that loses what it has answered', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const report = await run({ seed: 20_265, durationMs: 6_000, withLosses: true, work: 'records' })
    expect(report.violations).toEqual([])
    expect(report.losses).toBeGreaterThan(0)
  })
})

describe('a fleet that waits for a replica', () => {
  test('keeps what was acknowledged when a replica takes over that lacks the last writes', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const report = await run({ seed: 20_263, durationMs: 8_000, withReplica: true })
    expect(report.violations).toEqual([])
    expect(report.losses).toBeGreaterThan(0)
    expect(report.counts['lostByRedis']).toBe(0)
  })
})

describe('faults', () => {
  test('in a deploy, a worker that another fault has killed is not asked to leave', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const random = new SeededRandom(1)
    await using world = await World.start({
      random,
      persistence: 'rdb',
      work: 'jobs',
      weakenedModule: undefined,
    })
    await world.addWorker()
    const last = await world.addWorker()
    await Promise.all([FAULTS['deploy']?.(world, random), world.killWorker(last)])
    expect(world.violations).toEqual([])
    expect(world.workers.map(({ name }) => name)).not.toContain(last.name)
  })
})

describe('chance', () => {
  test('that was forked draws the same, whatever the other is asked for', () => {
    const [one, other] = [new SeededRandom(7), new SeededRandom(7)]
    const fork = one.fork()
    one.next()
    expect(other.fork().next()).toBe(fork.next())
  })
})

describe('the suite notices', () => {
  test.each(WEAKENINGS)('what there is to weaken: $name', async (each) => {
    const dir = await mkdtemp(join(tmpdir(), 'rsc-'))
    try {
      expect(await copyWeakened(dir, each)).toMatch(/index\.js$/)
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })

  test.each([
    'a lock for each entry instead of each stream',
    'no backlog',
    'a record is committed before its handler is called',
    'a commit that is due is not waited for',
    'a transaction asks neither for the session nor for the fence',
  ])('%s', { timeout: TIMEOUT_MS }, async (name) => {
    const weakened = weakening(name)
    const found = await runWeakened(weakened)
    expect(found.map(({ kind }) => kind)).toContain(weakened.finds)
  })
})
