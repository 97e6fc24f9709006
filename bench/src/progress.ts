/** One line that says what is going on: rewritten on a terminal, line by line elsewhere. */
import type { WriteStream } from 'node:tty'

export class Progress {
  readonly #out: WriteStream
  readonly #startedMs = performance.now()

  constructor(out: WriteStream = process.stderr) {
    this.#out = out
  }

  show(text: string): void {
    const seconds = Math.round((performance.now() - this.#startedMs) / 1000)
    const line = `[${seconds} s] ${text}`
    if (this.#out.isTTY) this.#out.write(`\r\x1b[2K${line.slice(0, this.#out.columns - 1)}`)
    else this.#out.write(`${line}\n`)
  }

  /** Makes room for something else to be printed. */
  clear(): void {
    if (this.#out.isTTY) this.#out.write('\r\x1b[2K')
  }
}
