/**
 * How much of the machine the bench gets. Other work on it makes every time longer; ratios suffer less.
 */

const SPIN_CPU_MS = 100
/** Below this, times say more about the machine's other work than about what was measured. */
export const FAIR_SHARE = 0.8

/** Share of a core that a busy process is given now, 1 for all of it: processor time by time. */
export function coreShare(): number {
  const startMs = performance.now()
  const startCpu = process.cpuUsage()
  for (;;) {
    const { system, user } = process.cpuUsage(startCpu)
    const cpuMs = (system + user) / 1000
    if (cpuMs >= SPIN_CPU_MS) return Math.min(1, cpuMs / (performance.now() - startMs))
  }
}
