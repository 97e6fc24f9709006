/** One line that says what is going on: rewritten on a terminal, line by line elsewhere. Results go above it. */
import type { WriteStream } from 'node:tty'

export class Progress {
  readonly #out: WriteStream
  readonly #results: NodeJS.WritableStream
  readonly #startedMs = performance.now()

  constructor(out: WriteStream = process.stderr, results: NodeJS.WritableStream = process.stdout) {
    this.#out = out
    this.#results = results
  }

  show(text: string): void {
    const seconds = Math.round((performance.now() - this.#startedMs) / 1000)
    const line = `[${seconds} s] ${text}`
    if (this.#out.isTTY) this.#out.write(`\r\x1b[2K${line.slice(0, this.#out.columns - 1)}`)
    else this.#out.write(`${line}\n`)
  }

  /** A line that stays. */
  say(line: string): void {
    this.clear()
    this.#results.write(`${line}\n`)
  }

  /** Makes room for something else to be printed. */
  clear(): void {
    if (this.#out.isTTY) this.#out.write('\r\x1b[2K')
  }
}
