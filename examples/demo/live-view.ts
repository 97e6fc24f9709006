/**
 * One picture, redrawn in place: progress, what each consumer owns, takeovers, streams that move, and what has happened
 * so far.
 */
import type { WriteStream } from 'node:tty'
import { type Paint, paintFor } from './paint.js'
import type { Fault, Scoreboard, Standing } from './scoreboard.js'
import type { Sharing } from './sharing.js'
import type { Size, View } from './view.js'
import { describeSharing, describeState, describeTakeovers, formatCount, formatSeconds } from './wording.js'

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
/** Without it a line longer than the terminal would take two rows, and the next picture would start too low. */
const NO_WRAP = '\x1b[?7l'
const WRAP = '\x1b[?7h'
const CLEAR_BELOW = '\x1b[J'
const CLEAR_REST_OF_LINE = '\x1b[K'

const BAR_WIDTH = 40
const ROWS_IF_UNKNOWN = 24
const NAME_WIDTH = 12
const STATE_WIDTH = 10
const COUNT_WIDTH = 5

const COLOURS: Record<Standing['state'], 'green' | 'yellow' | 'red' | 'dim'> = {
  starting: 'dim',
  held: 'green',
  lost: 'yellow',
  seeking: 'yellow',
  closed: 'dim',
  killed: 'red',
  stopped: 'yellow',
}

export class LiveView implements View {
  readonly #size: Size
  readonly #output: WriteStream
  readonly #paint: Paint
  readonly #startMs = performance.now()
  readonly #events: string[] = []
  #rowsDrawn = 0
  #hasEnded = false

  constructor(size: Size, output: WriteStream) {
    this.#size = size
    this.#output = output
    this.#paint = paintFor(output)
    output.write(HIDE_CURSOR + NO_WRAP)
  }

  show(board: Scoreboard): void {
    const lines = ['', ...this.#progress(board), '', ...this.#consumers(board), '']
    lines.push(...board.faults.map((fault) => this.#takeovers(fault)))
    if (board.sharing !== null) lines.push(this.#sharing(board.sharing))
    lines.push('', ...this.#events.map((event) => `  ${event}`))
    // A picture higher than the terminal could not be redrawn in place.
    const rows = lines.slice(0, (this.#output.rows || ROWS_IF_UNKNOWN) - 1)
    const goUp = this.#rowsDrawn === 0 ? '' : `\x1b[${this.#rowsDrawn}A`
    this.#output.write(
      `${goUp}\r${rows.map((row) => `${row}${CLEAR_REST_OF_LINE}\n`).join('')}${CLEAR_BELOW}`,
    )
    this.#rowsDrawn = rows.length
  }

  tell(event: string): void {
    this.#events.push(`${this.#paint.dim(this.#elapsed().padStart(6))}  ${event}`)
  }

  end(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#output.write(WRAP + SHOW_CURSOR)
  }

  #elapsed(): string {
    return formatSeconds(performance.now() - this.#startMs, 1)
  }

  #progress({ counted, finished, sent }: Scoreboard): string[] {
    const { airports, flights } = this.#size
    const { cyan, dim } = this.#paint
    const width = (count: number): number => Math.floor((BAR_WIDTH * count) / flights)
    const done = width(counted)
    const waiting = Math.max(0, width(sent) - done)
    const bar = cyan('█'.repeat(done)) + '▒'.repeat(waiting) + dim('░'.repeat(BAR_WIDTH - done - waiting))
    const numbers = `${formatCount(counted)} of ${formatCount(flights)} flights`
    const legend = `█ counted   ▒ ${formatCount(Math.max(0, sent - counted))} waiting`
    return [
      `  ${bar}  ${numbers}, ${finished} of ${airports} airports   ${this.#elapsed()}`,
      dim(`  ${legend}`),
    ]
  }

  #consumers({ standings }: Scoreboard): string[] {
    return [...standings].map(([name, { airports, state }]) => {
      const word = this.#paint[COLOURS[state]](describeState(state).padEnd(STATE_WIDTH))
      const bar = '■'.repeat(Math.ceil((BAR_WIDTH * airports.size) / this.#size.airports))
      return `  ${name.padEnd(NAME_WIDTH)}${word}${`${airports.size}`.padStart(COUNT_WIDTH)} streams  ${bar}`
    })
  }

  #takeovers(fault: Fault): string {
    const { consumer, isRepaired, kind } = fault
    const paint = isRepaired ? this.#paint.green : this.#paint.yellow
    return `  ${consumer.padEnd(NAME_WIDTH)}${kind.padEnd(STATE_WIDTH)}  ${paint(describeTakeovers(fault))}`
  }

  #sharing(sharing: Sharing): string {
    const paint = sharing.evenAfterMs === null ? this.#paint.yellow : this.#paint.green
    const name = sharing.consumer.padEnd(NAME_WIDTH)
    return `  ${name}${'joined'.padEnd(STATE_WIDTH)}  ${paint(describeSharing(sharing))}`
  }
}
