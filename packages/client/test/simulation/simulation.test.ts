/**
 * Whole clients against a model of the server, on a virtual clock: every command, answer, timer, event, fault and
 * clock is ordered by a seed, and the invariants of SPEC.md are checked after each step. A seed that fails is named;
 * the same seed gives the same schedule.
 */
import { describe, expect, it, vi } from 'vitest'
import { PAST_SEEDS, PAST_SHARING_SEEDS } from './past-seeds.js'
import { type Outcome, type PlayOptions, play } from './schedule.js'
import { playSharing } from './sharing-schedule.js'
import { withVirtualTime } from './virtual-time.js'
import { WEAKENINGS } from './weakenings.js'

const { SIMULATION_SEED: givenSeed, SIMULATION_SECONDS: seconds } = process.env
const SCHEDULES = 100
const SHARING_SCHEDULES = 25
const WEAK_SCHEDULES = 600
const LONG_MS = 86_400_000

// A machine may have other things to do.
vi.setConfig({ testTimeout: 120_000 })

/** Plays seeds until one fails or there are no more. */
async function firstFailure(
  seeds: Iterable<number>,
  options: PlayOptions = {},
  playOne: typeof play = play,
): Promise<Outcome | null> {
  return await withVirtualTime(async () => {
    for (const seed of seeds) {
      const outcome = await playOne(seed, options)
      if (outcome.violations.length > 0) return outcome
    }
    return null
  })
}

function explain(failure: Outcome | null): string | null {
  if (failure === null) return null
  const { seed, violations } = failure
  return `seed ${seed}: ${violations[0]}; SIMULATION_SEED=${seed} tells the whole story`
}

function* seedsFrom(first: number, count = Number.POSITIVE_INFINITY): Iterable<number> {
  for (let seed = first; seed < first + count; seed++) yield seed
}

/** Seeds until some seconds have passed; says how many there were. */
function* seedsFor(first: number, forSeconds: number): Iterable<number> {
  const startMs = performance.now()
  let played = 0
  for (; performance.now() < startMs + forSeconds * 1000; played++) yield first + played
  const perSecond = (played / (performance.now() - startMs)) * 1000
  console.log(`schedules ${first} to ${first + played - 1}: ${perSecond.toFixed(0)} a second`)
}

describe('whole clients', () => {
  it('keep what SPEC.md promises in schedules that have failed before', async () => {
    expect(explain(await firstFailure(PAST_SEEDS))).toBeNull()
    expect(explain(await firstFailure(PAST_SHARING_SEEDS, {}, playSharing))).toBeNull()
  })

  it.runIf(givenSeed === undefined && seconds === undefined)(
    'keep what SPEC.md promises, whatever happens in whatever order',
    async () => {
      expect(explain(await firstFailure(seedsFrom(1, SCHEDULES)))).toBeNull()
    },
  )

  it.runIf(seconds !== undefined).each([
    ['keep what SPEC.md promises', play],
    ['come to their shares and then move nothing', playSharing],
  ])(
    '%s, for half as long as asked',
    async (_, playOne) => {
      const first = Number(givenSeed ?? Math.floor(Math.random() * 2 ** 31))
      const seeds = seedsFor(first, Number(seconds) / 2)
      expect(explain(await firstFailure(seeds, {}, playOne))).toBeNull()
    },
    LONG_MS,
  )

  it.runIf(givenSeed !== undefined && seconds === undefined).each([
    ['keep what SPEC.md promises', play],
    ['come to their shares and then move nothing', playSharing],
  ])('%s, with one seed', async (_, playOne) => {
    const onLog = (text: string): void => console.log(text)
    expect(explain(await firstFailure([Number(givenSeed)], { onLog }, playOne))).toBeNull()
  })

  it.runIf(givenSeed === undefined && seconds === undefined)(
    'come to their shares and then move nothing, whatever happens while they do',
    async () => {
      const failure = await firstFailure(seedsFrom(1, SHARING_SCHEDULES), {}, playSharing)
      expect(explain(failure)).toBeNull()
    },
  )

  it('do the same when a schedule is played again', async () => {
    const stories: string[] = []
    for (let times = 0; times < 2; times++) {
      const story: string[] = []
      await firstFailure([1], { onLog: (text) => story.push(text) })
      stories.push(story.join('\n'))
    }
    expect(stories[1]).toBe(stories[0])
  })
})

describe('a weakened client', () => {
  it.each(WEAKENINGS)('is noticed with $name', async (weakening) => {
    const { apply, firstSeed = 1, isOfSharing = false, noticed, options } = weakening
    const restore = apply?.()
    try {
      const seeds = seedsFrom(firstSeed, WEAK_SCHEDULES)
      const failure = await firstFailure(seeds, options, isOfSharing ? playSharing : play)
      expect(explain(failure)).toMatch(noticed)
    } finally {
      restore?.()
    }
  })
})
