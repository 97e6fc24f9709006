/** A scenario that measures many things of one kind says only once what they are of. */
import type { BenchRun } from '../bench-run.js'
import { OURS } from '../peers.js'

/** Records figures of ours of which less is better. */
export function recorder(
  bench: BenchRun,
  of: string,
): (what: string, unit: string, samples: number | readonly number[]) => void {
  return (what, unit, samples) =>
    bench.record({ what: `${of}: ${what}`, peer: OURS, unit, better: 'lower', samples })
}
