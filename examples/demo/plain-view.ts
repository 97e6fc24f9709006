/** Lines for a file or a log: one for every tenth of the work, one for everything that happens. */
import type { Scoreboard } from './scoreboard.js'
import type { Size, View } from './view.js'
import { formatCount, formatSeconds } from './wording.js'

const TIME_WIDTH = 7

export class PlainView implements View {
  readonly #size: Size
  readonly #write: (text: string) => void
  readonly #startMs = performance.now()
  #tenths = 0

  constructor(size: Size, write: (text: string) => void) {
    this.#size = size
    this.#write = write
  }

  show(board: Scoreboard): void {
    const { counted } = board
    const tenths = Math.floor((10 * counted) / this.#size.flights)
    if (tenths <= this.#tenths) return
    this.#tenths = tenths
    const owners = [...board.standings].map(([name, { airports }]) => `${name} owns ${airports.size}`)
    this.tell(`${tenths}0 %, ${formatCount(counted)} flights counted; ${owners.join(', ')}`)
  }

  tell(event: string): void {
    const time = formatSeconds(performance.now() - this.#startMs, 1).padStart(TIME_WIDTH)
    this.#write(`${time}  ${event}\n`)
  }

  end(): void {} // nothing was changed
}
