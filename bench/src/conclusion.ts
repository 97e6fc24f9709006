/** The results of a run, in one sentence each, and whether the run was successful. */
import { type Figure, verdictOf } from './figure.js'

export interface Conclusion {
  readonly lines: readonly string[]
  /** True if nothing failed and every budget was kept. */
  readonly isWell: boolean
}

export function concludeFrom(figures: readonly Figure[]): Conclusion {
  const verdicts = figures.map((figure) => ({ figure, verdict: verdictOf(figure) }))
  const failed = verdicts.filter(({ verdict }) => verdict === 'failed')
  const broken = verdicts.filter(({ verdict }) => verdict === 'broken')
  const kept = verdicts.filter(({ verdict }) => verdict === 'kept').length
  const budgets = kept + broken.length
  const lines = [
    ...failed.map(({ figure }) => `FAILED: ${name(figure)}: ${figure.failure}`),
    ...broken.map(({ figure }) => `BROKEN: ${name(figure)}`),
  ]
  const count = `${kept} of ${budgets} budgets that were measured are kept`
  if (failed.length > 0) lines.push(`${count}; ${failed.length} measurements failed.`)
  else lines.push(broken.length > 0 ? `${count}.` : `All ${budgets} budgets are kept.`)
  return { lines, isWell: failed.length + broken.length === 0 }
}

function name({ peer, scenario, what }: Figure): string {
  return `${scenario}: ${what} (${peer})`
}
