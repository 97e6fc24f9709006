/** The table at the end. */
import type { Comparison } from './comparison.js'
import type { Delays } from './delays.js'
import type { Paint } from './paint.js'
import type { Outcome } from './run.js'
import { describeCounts, describeSharing, describeTakeovers, formatCount, formatSeconds } from './wording.js'

const LABEL_WIDTH = 30
const BUSIEST_SHOWN = 3

export function formatSummary(
  outcome: Outcome,
  comparison: Comparison,
  expected: ReadonlyMap<string, Delays>,
  paint: Paint,
): string {
  const { equal, flightsCountedTwice, flightsLost, unequal } = comparison
  const mustBe0 = (count: number): string => (count === 0 ? paint.green('0') : paint.red(formatCount(count)))
  const lines = [
    paint.bold(`Compared with the file, after ${formatSeconds(outcome.durationMs, 1)}`),
    row('airports equal', paint.green(String(equal.length))),
    row('airports unequal', mustBe0(unequal.length)),
    row('flights lost', mustBe0(flightsLost)),
    row('flights counted twice', mustBe0(flightsCountedTwice)),
    ...faults(outcome),
    ...sharing(outcome),
    row(
      'processes',
      outcome.endings.map(({ name, exit }) => `${name} ${exit.signal ?? `exit ${exit.code}`}`).join(', '),
    ),
    ...busiest(outcome, expected),
  ]
  return lines.map((line) => `  ${line}\n`).join('')
}

function row(label: string, text: string): string {
  return `${label.padEnd(LABEL_WIDTH)}${text}`
}

function faults({ board }: Outcome): string[] {
  return board.faults.flatMap((fault) => {
    const { lost, refused } = board.standing(fault.consumer)
    const lines = [row(`${fault.consumer} ${fault.kind}`, describeTakeovers(fault))]
    if (lost > 0) lines.push(row('  was told what it lost', `${lost} streams`))
    if (refused.size > 0) lines.push(row('  had its results refused', describeCounts(refused)))
    return lines
  })
}

function sharing({ board }: Outcome): string[] {
  return board.sharing === null
    ? []
    : [row(`${board.sharing.consumer} joined`, describeSharing(board.sharing))]
}

/** Some of what was worked out, to look at. */
function busiest({ results }: Outcome, expected: ReadonlyMap<string, Delays>): string[] {
  const airports = [...expected].sort(([, a], [, b]) => b.flights - a.flights).slice(0, BUSIEST_SHOWN)
  return airports.map(([airport], index) => {
    const delays = results.get(airport)
    const text = delays === undefined ? 'no result' : describe(delays)
    return row(index === 0 ? 'delays at the busiest' : '', `${airport}  ${text}`)
  })
}

function describe({ flights, totalMinutes, worstMinutes }: Delays): string {
  return `${flights} flights, mean ${(totalMinutes / flights).toFixed(1)} min, worst ${worstMinutes} min`
}
