/** How many streams each client is to have. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { dampedForMs, formatMemberFacts, parseMember } from '../src/decisions/member-facts.js'
import { lacksMuch, type Offer, offerOf } from '../src/decisions/offer.js'
import {
  fillLevel,
  formatFoundLevel,
  type LevelLine,
  levelOf,
  parseFoundLevel,
  shareAt,
  wantedAt,
  waterLevel,
} from '../src/decisions/water-level.js'

const limit = fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.nat(50))
const weight = fc.constantFrom(0, 0.5, 1, 1, 1, 2, 10)
const members = fc.array(fc.record({ maxOwnedStreams: limit, weight }), { minLength: 1, maxLength: 20 })

function line(consumer: string, pending: number, isAlive: boolean, maxOwnedStreams = Infinity): LevelLine {
  return {
    consumer,
    pending,
    isAlive,
    ageMs: 0,
    facts: { maxOwnedStreams, weight: 1, heartbeatTtlMs: 2000, restarts: 0 },
  }
}

describe('the level', () => {
  it('is the one at which the shares add up to all there is', () => {
    fc.assert(
      fc.property(members, fc.nat(1000), (all, total) => {
        const level = waterLevel(total, all)
        const shares = all.map((member) => shareAt(level, member))
        const sum = shares.reduce((a, b) => a + b, 0)
        const most = all.reduce((a, { maxOwnedStreams, weight: w }) => a + (w > 0 ? maxOwnedStreams : 0), 0)
        if (most < total) {
          expect(level).toBe(Number.POSITIVE_INFINITY)
          expect(sum).toBe(most)
        } else {
          expect(sum).toBeCloseTo(total, 6)
        }
      }),
    )
  })

  it('counts what waits as well as what is owned, on the living alone', () => {
    const roster = [
      line('a:1', 7, true),
      line('b:1', 1, true),
      line('c:1', 3, false),
      line('pool:0', 1, false),
    ]
    expect(levelOf(roster)).toEqual({ level: 6, living: 2 })
    expect(levelOf(roster, 'a:1')).toEqual({ level: 12, living: 1 })
  })

  it('is higher for the others where one may own less', () => {
    expect(levelOf([line('a:1', 0, true, 2), line('b:1', 0, true), line('c:1', 12, false)]).level).toBe(10)
  })
})

/** What the clients own when each has taken what an offer says it lacks. */
function poured(owned: readonly number[], { firstLevel, level }: Offer): number[] {
  return owned.map((held) => {
    const facts = { maxOwnedStreams: Number.POSITIVE_INFINITY, weight: 1 }
    return lacksMuch(firstLevel, held, facts) ? Math.max(held, shareAt(level, facts)) : held
  })
}

describe('the level key', () => {
  it('is read as it was written', () => {
    for (const found of [
      { level: 12.5, living: 8, waiting: 0, backlogLevel: null },
      { level: Number.POSITIVE_INFINITY, living: 1, waiting: 3, backlogLevel: Number.POSITIVE_INFINITY },
      { level: 1e-7, living: 1000, waiting: 70, backlogLevel: 20.5 },
    ]) {
      expect(parseFoundLevel(formatFoundLevel(found))).toEqual(found)
    }
    for (const text of [null, '', 'nonsense', '1', '1 2']) expect(parseFoundLevel(text)).toBeNull()
  })
})

describe('what waits', () => {
  const sum = (all: readonly number[]): number => all.reduce((a, b) => a + b, 0)
  const fleetWith = (owned: readonly number[], waiting: number): LevelLine[] => [
    ...owned.map((count, index) => line(`c${index}:1`, count, true)),
    line('pool:0', waiting, false),
  ]

  it('fills those that have least, and is enough for what they are told to take', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(100), { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 1, max: 500 }),
        (owned, waiting) => {
          const after = poured(owned, offerOf(fleetWith(owned, waiting)))
          expect(sum(after)).toBeCloseTo(sum(owned) + waiting, 6)
          // Whoever was given something has no more than anybody who was given nothing, but for the tolerance.
          const given = after.filter((count, index) => count > (owned[index] as number))
          const least = Math.min(...after.filter((_, index) => after[index] === owned[index]))
          const mean = sum(after) / after.length
          expect(Math.max(...given)).toBeLessThanOrEqual(Math.max(least, mean * 1.1) + 1e-6)
        },
      ),
    )
  })

  it('goes in a deploy to the client that is new, though others lack a little', () => {
    const offer = offerOf([...fleetWith([0, 500, 480, 510, 490], 0), line('old:1', 520, true)], 'old:1')
    expect(poured([0, 500, 480, 510, 490], offer)).toEqual([520, 500, 480, 510, 490])
  })

  it('goes to all where nobody lacks much, or those that do would have too much', () => {
    expect(offerOf(fleetWith([500, 480, 510], 30)).firstLevel).toBeNull()
    expect(offerOf(fleetWith([0, 500, 500], 900))).toMatchObject({ firstLevel: null })
    expect(poured([0, 500, 500], offerOf(fleetWith([0, 500, 500], 900)))[0]).toBeCloseTo(1900 / 3)
  })

  it('waits for nobody who crashes again and again', () => {
    const crashing = line('crashing:1', 0, true)
    const roster = [...fleetWith([10, 10], 4), { ...crashing, facts: { ...crashing.facts, restarts: 5 } }]
    expect(offerOf(roster)).toEqual({ level: 12, living: 2, firstLevel: null })
  })

  it('fills those that own least to one level, and no more of them than it reaches', () => {
    const owned = fc.array(fc.nat(20), { minLength: 1, maxLength: 20 })
    fc.assert(
      fc.property(owned, limit, fc.integer({ min: 1, max: 100 }), (pending, most, waits) => {
        const living = pending.map((each, index) => line(`${index}:1`, Math.min(each, most), true, most))
        const level = fillLevel(waits, living)
        const lacks = living.map((each) => Math.max(0, shareAt(level, each.facts) - each.pending))
        const room = living.reduce((sum, each) => sum + most - each.pending, 0)
        expect(lacks.reduce((a, b) => a + b, 0)).toBeCloseTo(Math.min(waits, room), 6)
      }),
    )
  })

  it('is for those alone that it reaches, also where others own less than their share', () => {
    const roster = [line('a:1', 9, true), line('b:1', 10, true), line('c:1', 20, true)]
    expect(levelOf([...roster, line('x:1', 1, false)]).level).toBeCloseTo(13.3, 1)
    expect(fillLevel(1, roster)).toBe(10)
  })
})

describe('a client that crashes again and again', () => {
  it('is given nothing for a while after each beginning, for ever longer', () => {
    expect([0, 1, 2, 3, 20].map((restarts) => dampedForMs(restarts, 5000))).toEqual([
      0, 0, 10_000, 20_000, 600_000,
    ])
  })

  it('does not count in the level, unless there is nobody else', () => {
    const steady = line('a:1', 10, true)
    const facts = { ...steady.facts, restarts: 2 }
    const crashing = { ...line('b:1', 0, true), facts }
    expect(levelOf([steady, crashing])).toEqual({ level: 10, living: 1 })
    expect(levelOf([steady, { ...crashing, ageMs: 10_000 }])).toEqual({ level: 5, living: 2 })
    expect(levelOf([crashing, { ...line('c:1', 4, true), facts }])).toEqual({ level: 2, living: 2 })
  })
})

describe('a client below the level', () => {
  const ALL = { pending: 10, waiting: 10 }

  it('asks for all it lacks, rounded up', () => {
    expect(wantedAt(3.4, 0, ALL)).toBe(4)
    expect(wantedAt(10 / 3 + 1e-12, 3, ALL, 0)).toBe(1)
    expect(wantedAt(3.5, 3, ALL, 0.999)).toBe(1)
    expect(wantedAt(5, 5, ALL, 0)).toBe(0)
    expect(wantedAt(5, 8, ALL, 0)).toBe(0)
    expect(wantedAt(Number.POSITIVE_INFINITY, 8, { pending: 1, waiting: 100 }, 0.999)).toBe(
      Number.POSITIVE_INFINITY,
    )
  })

  it('draws lots for a part of a stream, so that about twice as many ask as there are', () => {
    expect(wantedAt(10.01, 10, ALL, 0.019)).toBe(1)
    expect(wantedAt(10.01, 10, ALL, 0.021)).toBe(0)
  })

  it('asks for what one of many dead clients has left only so often that all ask for about twice of it', () => {
    const clients = 200
    const dead = { pending: 10, waiting: 100 * 10 }
    const share = 5
    // Each of them lacks five of the thousand.
    const lots = Array.from({ length: 1000 }, (_, index) => wantedAt(share, 0, dead, (index + 0.5) / 1000))
    const asked = (lots.reduce((sum, wanted) => sum + wanted, 0) / lots.length) * clients
    expect(asked).toBeCloseTo(2 * dead.pending, 1)
  })

  it('that is alone asks for everything', () => {
    expect(wantedAt(1000, 0, { pending: 10, waiting: 1000 }, 0.999)).toBe(1000)
  })
})

describe('what clients know of each other', () => {
  it('is read as it was written, and is nothing special where it is missing', () => {
    for (const facts of [
      { maxOwnedStreams: Number.POSITIVE_INFINITY, weight: 1, heartbeatTtlMs: 2000 },
      { maxOwnedStreams: 3, weight: 0.25, heartbeatTtlMs: 200 },
    ]) {
      expect(parseMember(formatMemberFacts(facts))).toEqual({ ...facts, restarts: 0 })
      expect(parseMember(`${formatMemberFacts(facts)} 7 1700000000000`)).toMatchObject({ restarts: 7 })
    }
    for (const text of ['', 'nonsense', '1 2']) {
      expect(parseMember(text)).toMatchObject({ maxOwnedStreams: Number.POSITIVE_INFINITY, weight: 1 })
    }
  })
})
