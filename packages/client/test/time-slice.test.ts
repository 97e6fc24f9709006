/** Work that is done in slices leaves the event loop to timers and sockets. */
import { setImmediate as nextImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { TimeSlice } from '../src/async/time-slice.js'

const SOME_TURNS = 5

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** A piece of work of so many milliseconds, and whether the next one may begin within a few turns of the event loop. */
async function mayGoOnAfter(slice: TimeSlice, ms: number): Promise<boolean> {
  const sinceMs = performance.now()
  vi.advanceTimersByTime(ms)
  slice.worked(sinceMs)
  let goesOn = false
  void slice.turn().then(() => {
    goesOn = true
  })
  for (let i = 0; i < SOME_TURNS; i++) await nextImmediate()
  return goesOn
}

describe('the next piece of work', () => {
  it('goes on in the same slice, and after it in a later turn of the event loop', async () => {
    const slice = new TimeSlice()
    expect(await mayGoOnAfter(slice, 6)).toBe(true)
    expect(await mayGoOnAfter(slice, 6)).toBe(true)
  })

  it('waits a few milliseconds after one that filled a slice, so that heartbeats are answered in between', async () => {
    const slice = new TimeSlice()
    await slice.turn()
    expect(await mayGoOnAfter(slice, 100)).toBe(false)
    vi.advanceTimersByTime(3)
    for (let i = 0; i < SOME_TURNS; i++) await nextImmediate()
    expect(await mayGoOnAfter(slice, 0)).toBe(true)
  })

  it('begins at once if nothing was done in this turn of the event loop, and not if something was', async () => {
    const slice = new TimeSlice()
    expect(slice.mayWork()).toBe(true)
    vi.advanceTimersByTime(1000)
    slice.worked(performance.now() - 10)
    expect(slice.mayWork()).toBe(false)
    await nextImmediate()
    expect(slice.mayWork()).toBe(true)
  })

  it('does not begin at once while another caller waits for the end of a rest', async () => {
    const slice = new TimeSlice()
    slice.worked(performance.now())
    slice.worked(performance.now() - 100)
    const next = slice.turn()
    await nextImmediate()
    expect(slice.mayWork()).toBe(false)
    vi.advanceTimersByTime(3)
    await next
    expect(slice.mayWork()).toBe(true)
  })
})
