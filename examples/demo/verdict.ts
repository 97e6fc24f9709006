/** What must hold at the end, and what did not. */
import type { Comparison } from './comparison.js'
import type { Outcome } from './run.js'

const NAMES_SHOWN = 10

/** One sentence for each thing that is wrong; none if the demo has shown what it is to show. */
export function findProblems({ board, endings, problem }: Outcome, comparison: Comparison): string[] {
  const problems: string[] = []
  if (problem !== null) problems.push(`The run did not come to its end: ${problem}.`)
  if (comparison.unequal.length > 0) {
    const some = comparison.unequal.slice(0, NAMES_SHOWN).join(', ')
    problems.push(`${comparison.unequal.length} airports are not as the file says: ${some}.`)
  }
  const { flightsCountedTwice } = comparison
  if (flightsCountedTwice > 0) problems.push(`${flightsCountedTwice} flights were counted twice.`)
  for (const { name, exit, isClean } of endings) {
    if (!isClean) problems.push(`${name} did not end as it should: ${exit.signal ?? `code ${exit.code}`}.`)
  }
  if (problem === null && board.faults.length < 2) problems.push('Nobody was killed, or nobody was stopped.')
  for (const { consumer, kind, takeovers } of board.faults) {
    if (takeovers.size === 0) problems.push(`Nothing was taken over from ${consumer}.`)
    const { lost } = board.standing(consumer)
    if (kind === 'stopped' && lost === 0) problems.push(`${consumer} was not told what it lost.`)
  }
  if (problem === null && board.sharing?.evenAfterMs == null) {
    problems.push('No consumer joined, or the streams were not shared evenly afterwards.')
  }
  return problems
}
