/** The figures as a table of text. */
import { type Figure, ratioToOurs, verdictOf } from './figure.js'

const HEADER = ['scenario', 'what', 'peer', 'median', 'p99', 'unit', 'ratio', 'budget', 'kept']
const LEFT_ALIGNED = new Set([0, 1, 2, 5, 7, 8])

export function formatTable(figures: readonly Figure[]): string {
  const rows = [HEADER, ...rowsOf(figures)]
  const widths = HEADER.map((_, column) => Math.max(...rows.map((row) => (row[column] as string).length)))
  const lines = rows.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] as number
        return LEFT_ALIGNED.has(column) ? cell.padEnd(width) : cell.padStart(width)
      })
      .join('  ')
      .trimEnd(),
  )
  lines.splice(1, 0, widths.map((width) => '-'.repeat(width)).join('  '))
  return lines.join('\n')
}

/** The same for a document. */
export function formatMarkdown(figures: readonly Figure[]): string {
  const header = HEADER.slice(1)
  const rule = header.map((_, column) => (LEFT_ALIGNED.has(column + 1) ? '---' : '---:'))
  return [header, rule, ...rowsOf(figures).map((row) => row.slice(1))]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n')
}

function rowsOf(figures: readonly Figure[]): string[][] {
  return figures.map((figure) => {
    const { budget, median, p99, peer, samples, scenario, unit, what } = figure
    const ratio = ratioToOurs(figure, figures)
    const verdict = verdictOf(figure)
    return [
      scenario,
      what,
      peer,
      formatNumber(median),
      samples > 1 ? formatNumber(p99) : '',
      unit,
      ratio === null ? '' : `${formatNumber(ratio)}×`,
      budget === undefined ? '' : `${budget.statistic} ${budget.bound} ${formatNumber(budget.limit)}`,
      verdict === 'none' ? '' : verdict === 'kept' ? 'yes' : 'NO',
    ]
  })
}

/** Three digits, no exponents: 0.0123, 1.23, 12.3, 1,234. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '-'
  if (value === 0) return '0'
  const magnitude = Math.floor(Math.log10(Math.abs(value)))
  const digits = Math.min(Math.max(2 - magnitude, 0), 6)
  return new Intl.NumberFormat('en', { maximumFractionDigits: digits }).format(value)
}
