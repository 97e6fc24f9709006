import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Trigger } from '../src/async/trigger.js'

const FOR_EVER_MS = 1e12

let trigger: Trigger
let stop: AbortController
let waits: number
beforeEach(() => {
  vi.useFakeTimers()
  trigger = new Trigger()
  stop = new AbortController()
  waits = 0
})
afterEach(() => {
  stop.abort()
  vi.useRealTimers()
})

/** Waits in the background; answers when everything that is due has happened. */
async function wait(ms = FOR_EVER_MS): Promise<void> {
  void trigger.wait(ms, stop.signal).then(() => waits++)
  await vi.advanceTimersByTimeAsync(0)
}

describe('a trigger', () => {
  it('wakes the loop that waits for it', async () => {
    await wait()
    expect(waits).toBe(0)
    trigger.fire()
    await vi.advanceTimersByTimeAsync(0)
    expect(waits).toBe(1)
  })

  it('that was fired while the loop was busy does not let it wait, once', async () => {
    trigger.fire()
    trigger.fire()
    await wait()
    expect(waits).toBe(1)
    await wait()
    expect(waits).toBe(1)
  })

  it('that is fired later by several is fired once', async () => {
    trigger.fireLater(100)
    await vi.advanceTimersByTimeAsync(50)
    trigger.fireLater(100)
    await wait()
    await vi.advanceTimersByTimeAsync(50)
    expect(waits).toBe(1)
    await wait()
    await vi.advanceTimersByTimeAsync(100)
    expect(waits).toBe(1)
  })

  it('lets nobody wait beyond the given time, or the end of the signal', async () => {
    await wait(100)
    await vi.advanceTimersByTimeAsync(100)
    expect(waits).toBe(1)
    await wait()
    stop.abort()
    await vi.advanceTimersByTimeAsync(0)
    expect(waits).toBe(2)
  })
})
