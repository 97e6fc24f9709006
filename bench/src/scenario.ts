/** A group of measurements that belong together, run by its name. */
import type { BenchRun } from './bench-run.js'

export interface Scenario {
  readonly name: string
  readonly about: string
  run(bench: BenchRun): Promise<void>
}
