/** A small writer of line plots as SVG, both axes logarithmic. */
import { formatNumber } from './results-table.js'

export interface Series {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
}

export interface LinePlot {
  readonly title: string
  readonly xLabel: string
  readonly yLabel: string
  readonly series: readonly Series[]
}

const WIDTH = 720
const HEIGHT = 400
const MARGIN = { top: 48, right: 36, bottom: 56, left: 72 }
const COLORS = ['#0b6e4f', '#c1440e', '#33539e', '#8a5a9e', '#6b6b6b']
const LEGEND_LINE = 18
const TEXT = 'font-family="system-ui, sans-serif" font-size="13" fill="#222"'

/** Draws what is greater than 0: a logarithm has no place for the rest. */
export function drawLinePlot({ series, title, xLabel, yLabel }: LinePlot): string {
  const drawn = series.map(({ name, points }) => ({
    name,
    points: points.filter(([x, y]) => x > 0 && y > 0),
  }))
  const all = drawn.flatMap(({ points }) => points)
  const x = new LogScale(
    all.map(([value]) => value),
    MARGIN.left,
    WIDTH - MARGIN.right,
  )
  const y = new LogScale(
    all.map(([, value]) => value),
    HEIGHT - MARGIN.bottom,
    MARGIN.top,
  )
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeText(title)}">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(WIDTH / 2, 24, title, 'middle', 'font-weight="600"'),
    text((MARGIN.left + WIDTH - MARGIN.right) / 2, HEIGHT - 14, xLabel, 'middle'),
    text(
      0,
      0,
      yLabel,
      'middle',
      `transform="translate(18 ${(MARGIN.top + HEIGHT - MARGIN.bottom) / 2}) rotate(-90)"`,
    ),
    ...x.ticks.map((tick) => xTick(x.at(tick), tick)),
    ...y.ticks.map((tick) => yTick(y.at(tick), tick)),
    ...drawn.flatMap(({ points }, index) => line(points, x, y, colorOf(index))),
    ...drawn.flatMap(({ name }, index) => legend(name, index)),
    '</svg>',
    '',
  ].join('\n')
}

/** Whole powers of ten around the values, mapped to pixels. */
class LogScale {
  readonly ticks: readonly number[]
  readonly #from: number
  readonly #decades: number
  readonly #start: number
  readonly #end: number

  constructor(values: readonly number[], start: number, end: number) {
    const logs = values.map(Math.log10)
    this.#from = Math.floor(Math.min(...logs))
    this.#decades = Math.max(Math.ceil(Math.max(...logs)), this.#from + 1) - this.#from
    this.#start = start
    this.#end = end
    this.ticks = Array.from({ length: this.#decades + 1 }, (_, index) => 10 ** (this.#from + index))
  }

  at(value: number): number {
    const share = (Math.log10(value) - this.#from) / this.#decades
    return Math.round((this.#start + share * (this.#end - this.#start)) * 10) / 10
  }
}

function xTick(at: number, value: number): string {
  const bottom = HEIGHT - MARGIN.bottom
  const rule = `<line x1="${at}" y1="${MARGIN.top}" x2="${at}" y2="${bottom}" stroke="#ddd"/>`
  return rule + text(at, bottom + 20, formatNumber(value), 'middle')
}

function yTick(at: number, value: number): string {
  const rule = `<line x1="${MARGIN.left}" y1="${at}" x2="${WIDTH - MARGIN.right}" y2="${at}" stroke="#ddd"/>`
  return rule + text(MARGIN.left - 8, at + 4, formatNumber(value), 'end')
}

function line(points: Series['points'], x: LogScale, y: LogScale, color: string): string[] {
  const places = points.map(([px, py]) => [x.at(px), y.at(py)] as const)
  const path = places.map(([px, py]) => `${px},${py}`).join(' ')
  const dots = places.map(([px, py]) => `<circle cx="${px}" cy="${py}" r="3.5" fill="${color}"/>`)
  return [`<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"/>`, ...dots]
}

function legend(name: string, index: number): string[] {
  const y = MARGIN.top + 14 + index * LEGEND_LINE
  const x = MARGIN.left + 12
  return [
    `<line x1="${x}" y1="${y - 4}" x2="${x + 20}" y2="${y - 4}" stroke="${colorOf(index)}" stroke-width="2"/>`,
    text(x + 28, y, name, 'start'),
  ]
}

function colorOf(index: number): string {
  return COLORS[index % COLORS.length] as string
}

function text(x: number, y: number, content: string, anchor: string, more = ''): string {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" ${TEXT} ${more}>${escapeText(content)}</text>`
}

function escapeText(content: string): string {
  return content.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/"/g, '&quot;')
}
