/** The figures as a table of text. */
import { type Figure, ratioToOurs, verdictOf } from './figure.js'

/** The columns, and whether they hold numbers. */
const COLUMNS: readonly (readonly [header: string, isNumber: boolean])[] = [
  ['scenario', false],
  ['what', false],
  ['peer', false],
  ['median', true],
  ['p99', true],
  ['unit', false],
  ['better is', false],
  ['ratio', true],
  ['budget', false],
  ['kept', false],
  ['the peer differs', false],
]
const HEADER = COLUMNS.map(([header]) => header)
const VERDICTS = { none: '', kept: 'yes', broken: 'NO', failed: 'FAILED' } as const

export function formatTable(figures: readonly Figure[]): string {
  const rows = [HEADER, ...rowsOf(figures)]
  const widths = HEADER.map((_, column) => Math.max(...rows.map((row) => (row[column] as string).length)))
  const lines = rows.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] as number
        return isNumber(column) ? cell.padStart(width) : cell.padEnd(width)
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
  const rule = header.map((_, column) => (isNumber(column + 1) ? '---:' : '---'))
  return [header, rule, ...rowsOf(figures).map((row) => row.slice(1))]
    .map((row) => `| ${row.join(' | ')} |`)
    .join('\n')
}

/** One figure by itself, as it comes. */
export function formatLine(figure: Figure): string {
  const { failure, median, p99, peer, samples, scenario, unit, what } = figure
  const name = `${scenario}: ${what} (${peer})`
  if (failure !== undefined) return `${name}: FAILED: ${failure}`
  const worst = samples > 1 ? `, p99 ${formatNumber(p99)}` : ''
  const verdict = verdictOf(figure) === 'broken' ? ', over its budget' : ''
  return `${name}: ${formatNumber(median)} ${unit}${worst}${verdict}`
}

function isNumber(column: number): boolean {
  return COLUMNS[column]?.[1] === true
}

function rowsOf(figures: readonly Figure[]): string[][] {
  return figures.map((figure) => {
    const { better, budget, differs, failure, median, p99, peer, samples, scenario, unit, what } = figure
    const ratio = ratioToOurs(figure, figures)
    return [
      scenario,
      what,
      peer,
      formatNumber(median),
      samples > 1 ? formatNumber(p99) : '',
      unit,
      failure === undefined ? better : '',
      ratio === null ? '' : `${formatNumber(ratio)}×`,
      budget === undefined ? '' : `${budget.statistic} ${budget.bound} ${formatNumber(budget.limit)}`,
      VERDICTS[verdictOf(figure)],
      failure ?? differs,
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
