/**
 * How long the event loop is kept from a timer.
 *
 * On a busy machine a timer is late because other processes run, which says nothing about this one. So the meter
 * looks at the processor time spent between two ticks as well: the loop cannot have been blocked for longer than
 * that, nor for longer than the time that passed.
 */
import type { HostReport } from '../host-protocol.js'

const TICK_MS = 4

export class LoopMeter {
  #lateMs = Number.NaN
  #blockMs = Number.NaN
  #beganMs = 0
  #cpuAtBegin: NodeJS.CpuUsage = process.cpuUsage()
  #timer: NodeJS.Timeout | undefined

  /** Forgets what was measured before. The ticks of a watch cost some 3 % of a core. */
  begin(watchesLoop: boolean): void {
    clearTimeout(this.#timer)
    this.#lateMs = Number.NaN
    this.#blockMs = Number.NaN
    this.#beganMs = performance.now()
    this.#cpuAtBegin = process.cpuUsage()
    if (watchesLoop) this.#watch()
  }

  report(): HostReport {
    return {
      blockMs: this.#blockMs,
      lateMs: this.#lateMs,
      cpuMs: cpuMs(process.cpuUsage(), this.#cpuAtBegin),
      overMs: performance.now() - this.#beganMs,
    }
  }

  #watch(): void {
    this.#lateMs = 0
    this.#blockMs = 0
    let before = performance.now()
    let cpuBefore = process.cpuUsage()
    const tick = (): void => {
      const now = performance.now()
      const cpu = process.cpuUsage()
      const passedMs = now - before
      this.#lateMs = Math.max(this.#lateMs, passedMs - TICK_MS)
      this.#blockMs = Math.max(this.#blockMs, Math.min(passedMs, cpuMs(cpu, cpuBefore)))
      before = now
      cpuBefore = cpu
      this.#timer = setTimeout(tick, TICK_MS).unref()
    }
    this.#timer = setTimeout(tick, TICK_MS).unref()
  }
}

function cpuMs(now: NodeJS.CpuUsage, before: NodeJS.CpuUsage): number {
  return (now.user - before.user + now.system - before.system) / 1000
}
