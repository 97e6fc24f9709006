/** How much clients that have just begun may read. */
import { beforeEach, describe, expect, it } from 'vitest'
import { FleetView } from '../src/agents/fleet-view.js'
import { ReadingPace } from '../src/agents/reading-pace.js'
import type { Ownership } from '../src/ownership/ownership.js'

let nowMs: number
let held: number
let view: FleetView
let pace: ReadingPace

beforeEach(() => {
  nowMs = 1000
  held = 0
  const clock = { now: () => ({ monotonicMs: nowMs, wallMs: nowMs }) }
  view = new FleetView(clock)
  const ownership = {
    get held() {
      return held
    },
  } as Ownership
  pace = new ReadingPace({ clock, ownership, view, maxOwnedStreams: 1000, weight: 1 })
  pace.begin()
})

describe('a client that has just begun', () => {
  it('reads a little at once, and then slowly', () => {
    expect(pace.allowance).toBe(1)
    pace.noteRead(1)
    expect(pace.allowance).toBe(0)
    nowMs += 500
    expect(pace.allowance).toBe(30)
    pace.noteRead(30)
    expect(pace.allowance).toBe(0)
  })

  it('reads as fast as it can after a while', () => {
    pace.noteRead(1_000_000)
    nowMs += 3000
    expect(pace.isYoung).toBe(false)
    expect(pace.allowance).toBe(Number.POSITIVE_INFINITY)
  })
})

it('a client that has lost its session is not slow for as long again', () => {
  pace.noteRead(1000)
  nowMs += 100
  pace.begin()
  expect(pace.allowance).toBe(1)
  nowMs += 100
  expect(pace.allowance).toBe(41)
  nowMs += 700
  expect(pace.isYoung).toBe(false)
})

describe('a client beside a backlog', () => {
  beforeEach(() => {
    nowMs += 10_000
  })

  it('leaves the others their shares while clients still come, and a part of its own to more that may come', () => {
    held = 15
    view.hear('10 4 - 0 20.5')
    expect(pace.allowance).toBe(2)
    nowMs += 2000
    expect(pace.allowance).toBe(6)
    held = 21
    expect(pace.allowance).toBe(0)
    view.hear('10 4 - 0 25')
    expect(pace.allowance).toBe(4)
  })

  it('takes what the others leave when no more come, and what is added where nothing waits', () => {
    held = 500
    view.hear('10 4 - 0 20')
    nowMs += 4000
    expect(pace.allowance).toBe(Number.POSITIVE_INFINITY)
    view.hear('10 5 - 0')
    expect(pace.allowance).toBe(Number.POSITIVE_INFINITY)
  })

  it('leaves nothing where it is alone, and everything it may not own', () => {
    held = 500
    view.hear('10 1 - 0 100')
    expect(pace.allowance).toBe(Number.POSITIVE_INFINITY)
    view.hear('10 2 - 0 -')
    nowMs += 2000
    expect(pace.allowance).toBe(500)
  })
})
