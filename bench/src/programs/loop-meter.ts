/**
 * How long the event loop is kept from a timer.
 *
 * On a busy machine a timer is late because other processes run, which says nothing about this one. So the meter
 * looks at the processor time spent between two ticks as well: the loop cannot have been blocked for longer than
 * that, nor for longer than the tick was late.
 */
const TICK_MS = 4

export class LoopMeter {
  #lateMs = 0
  #blockMs = 0
  #beganMs = 0
  #cpuAtBegin: NodeJS.CpuUsage = process.cpuUsage()

  constructor() {
    this.reset()
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
      setTimeout(tick, TICK_MS).unref()
    }
    setTimeout(tick, TICK_MS).unref()
  }

  reset(): void {
    this.#lateMs = 0
    this.#blockMs = 0
    this.#beganMs = performance.now()
    this.#cpuAtBegin = process.cpuUsage()
  }

  report(): { blockMs: number; lateMs: number; cpuMs: number; overMs: number } {
    return {
      blockMs: this.#blockMs,
      lateMs: this.#lateMs,
      cpuMs: cpuMs(process.cpuUsage(), this.#cpuAtBegin),
      overMs: performance.now() - this.#beganMs,
    }
  }
}

function cpuMs(now: NodeJS.CpuUsage, before: NodeJS.CpuUsage): number {
  return (now.user - before.user + now.system - before.system) / 1000
}
