/**
 * A group of measurements that belong together, run by its name in a process of its own.
 *
 * A new one is a file in `scenarios/`, named in `scenarios.ts`; README.md says how.
 */
import type { BenchRun } from './bench-run.js'
import type { Budget } from './figure.js'

export interface Scenario {
  /** The word by which it is asked for, and under which its table stands in docs/performance.md. */
  readonly name: string
  /** One line for `--help`. */
  readonly about: string
  /** What ours has to keep. A budget of which nothing was measured is broken. */
  readonly budgets: readonly Budget[]
  /** Left out of a run unless it is named, or `--long` is given. */
  readonly isLong?: boolean
  /** After so long it is ended, and has failed. */
  readonly limitMs: number
  /** Records figures as they come. What it throws makes it fail; what it has recorded stays. */
  run(bench: BenchRun): Promise<void>
}
