/** Which clients give how many streams. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  balanceOf,
  decodePlan,
  encodePlan,
  type PlanMember,
  planOf,
} from '../src/decisions/rebalance-plan.js'
import { shareAt } from '../src/decisions/water-level.js'

const member = fc
  .record({
    owned: fc.nat(200),
    room: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.nat(100)),
    weight: fc.constantFrom(1, 1, 1, 1, 0.5, 2, 0),
  })
  .map(({ owned, room, weight }) => ({ owned, facts: { maxOwnedStreams: owned + room, weight } }))
const fleet = fc
  .array(member, { minLength: 1, maxLength: 30 })
  .map((all): PlanMember[] => all.map((each, index) => ({ ...each, consumer: `c${index}` })))

function even(...owned: number[]): PlanMember[] {
  const facts = { maxOwnedStreams: Number.POSITIVE_INFINITY, weight: 1 }
  return owned.map((count, index) => ({ consumer: `c${index}`, owned: count, facts }))
}

/** What the members own when a plan has been carried out and its streams went to those below their shares. */
function carriedOut(members: readonly PlanMember[]): PlanMember[] {
  const { keep, level } = balanceOf(members, 0)
  let moving = 0
  const kept = members.map((each) => {
    const quota = keep.get(each.consumer) ?? each.owned
    moving += each.owned - quota
    return { ...each, owned: quota }
  })
  // As receivers do: each has as many dealt as it lacks, rounded down first.
  for (const round of [Math.floor, Math.ceil]) {
    for (const each of kept) {
      const wanted = Math.max(
        0,
        round(shareAt(level, each.facts) - 1e-9 + (round === Math.floor ? 2e-9 : 0)) - each.owned,
      )
      const taken = Math.min(moving, wanted)
      each.owned += taken
      moving -= taken
    }
  }
  expect(moving).toBe(0)
  return kept
}

describe('a plan', () => {
  it('computed from its own result moves nothing', () => {
    fc.assert(
      fc.property(fleet, (members) => {
        if (members.every(({ facts }) => facts.weight === 0)) return
        expect(balanceOf(carriedOut(members), 0).moves).toBe(0)
      }),
    )
  })

  it('moves as few streams as bring everybody to its share', () => {
    fc.assert(
      fc.property(fleet, (members) => {
        const { level, moves } = balanceOf(members, 0)
        if (level === Number.POSITIVE_INFINITY) return // weightless clients keep what nobody may take
        // Whoever is above its share by one or more has to give; nobody has to give more than down to its share.
        const ceils = members.map(({ facts, owned }) =>
          Math.max(0, owned - Math.ceil(shareAt(level, facts) - 1e-9)),
        )
        const floors = members.map(({ facts, owned }) =>
          Math.max(0, Math.floor(shareAt(level, facts) + 1e-9) - owned),
        )
        const sum = (all: number[]): number => all.reduce((a, b) => a + b, 0)
        expect(moves).toBe(Math.max(sum(ceils), sum(floors)))
      }),
    )
  })

  it('gives nobody more than it may own, and of twice the weight twice as many', () => {
    const members = [
      { consumer: 'full', owned: 5, facts: { maxOwnedStreams: 5, weight: 1 } },
      { consumer: 'heavy', owned: 0, facts: { maxOwnedStreams: 1000, weight: 2 } },
      { consumer: 'much', owned: 85, facts: { maxOwnedStreams: 1000, weight: 1 } },
      { consumer: 'drained', owned: 10, facts: { maxOwnedStreams: 1000, weight: 0 } },
    ]
    const { keep, level } = balanceOf(members, 0)
    expect(level).toBeCloseTo(95 / 3)
    expect(keep.get('full')).toBeUndefined()
    expect(keep.get('drained')).toBe(0)
    expect([31, 32]).toContain(keep.get('much'))
  })

  it('leaves the remainder where it is', () => {
    const { keep, moves } = balanceOf(even(4, 3, 3), 0)
    expect(moves).toBe(0)
    expect(keep.size).toBe(0)
    expect(balanceOf(even(5, 3, 2), 0).moves).toBe(1)
  })

  it('is needed when somebody is a tenth off, too high or too low, and then goes all the way', () => {
    expect(balanceOf(even(1000, 1000, 1000, 0), 0)).toMatchObject({ moves: 750, isNeeded: true })
    expect(balanceOf(even(...Array.from({ length: 30 }, () => 100), 0), 0).isNeeded).toBe(true)
    expect(balanceOf(even(1050, 950, 1000), 0)).toMatchObject({ moves: 50, isNeeded: false })
    expect(balanceOf(even(11, 10, 9), 0).isNeeded).toBe(false)
    expect(balanceOf(even(2, 0), 0)).toMatchObject({ moves: 1, isNeeded: false })
    expect(balanceOf(even(3, 0), 0).isNeeded).toBe(true)
  })

  it('counts what waits for an owner, so that nobody gives what others will be dealt anyway', () => {
    expect(balanceOf(even(10, 0), 10)).toMatchObject({ moves: 0, level: 10 })
  })

  it('splits what is under way among those that give, and names no more than 64 of them', () => {
    const members = even(
      ...Array.from({ length: 100 }, (_, index) => 100 + index),
      ...Array.from({ length: 100 }, () => 0),
    )
    const balance = balanceOf(members, 0)
    const plan = planOf(balance, 200, 64)
    expect(Object.keys(plan.keep)).toHaveLength(64)
    expect(plan.keep['c99']).toBeDefined()
    expect(plan.keep['c0']).toBeUndefined()
    expect(plan.inFlight).toBe(100)
    expect(planOf(balanceOf(even(...Array.from({ length: 40 }, () => 10), 0), 0), 41, 10).inFlight).toBe(1)
    expect(decodePlan(encodePlan(plan))).toEqual(plan)
    for (const text of ['', '{}', '{"level":1,"living":1,"inFlight":0,"keep":{}}'])
      expect(decodePlan(text)).toBeNull()
  })
})
