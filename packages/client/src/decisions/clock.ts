/** Time as the decisions of this package see it. Injected, so that tests can move it. */

/** A moment on both clocks: the monotonic one sleeps with the machine on some systems, the wall clock is set by people. */
export interface Instant {
  readonly monotonicMs: number
  readonly wallMs: number
}

export interface Clock {
  now(): Instant
}

export const systemClock: Clock = {
  now: () => ({ monotonicMs: performance.now(), wallMs: Date.now() }),
}

/** Milliseconds from `start` to `end`, on whichever clock says more. */
export function elapsedMs(start: Instant, end: Instant): number {
  return Math.max(end.monotonicMs - start.monotonicMs, end.wallMs - start.wallMs)
}
