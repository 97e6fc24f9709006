/**
 * Programs that tests run as processes of their own, to be really killed, stopped and cut off.
 *
 * A program writes one JSON object per line to stdout, reads one per line from stdin, and ends when stdin ends, so
 * that it does not outlive the test. What it writes to stderr is shown when the test fails.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { reapAtExit } from './child-reaper.js'

const LINE_TIMEOUT_MS = 10_000
const MAX_STDERR_CHARS = 4_000
const MAX_LINES_SHOWN = 10

export type JsonLine = Readonly<Record<string, unknown>>

export interface ProgramOptions {
  readonly args?: readonly string[]
  /** Added to the environment of this process; undefined removes. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Options of Node itself, for example `['--max-old-space-size=64']`. */
  readonly nodeArgs?: readonly string[]
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

interface Waiter {
  readonly isWanted: (line: JsonLine) => boolean
  readonly resolve: (line: JsonLine) => void
  readonly reject: (error: Error) => void
}

export class Program implements AsyncDisposable {
  /** Every line so far, those handed out by `nextLine` too. */
  readonly lines: JsonLine[] = []
  /** Resolves when the process is gone and its output read; never rejects. */
  readonly exited: Promise<Exit>
  readonly #name: string
  readonly #child: ChildProcessWithoutNullStreams
  readonly #waiters = new Set<Waiter>()
  #unread: JsonLine[] = []
  #stderr = ''
  #exit: Exit | undefined

  private constructor(file: string, { args = [], env = {}, nodeArgs = [] }: ProgramOptions) {
    this.#name = file
    const child = spawn(process.execPath, [...nodeArgs, file, ...args], { env: { ...process.env, ...env } })
    this.#child = child
    reapAtExit(child)
    createInterface({ input: child.stdout }).on('line', (text) => this.#onLine(text))
    child.stderr.on('data', (chunk: Buffer) => this.#note(chunk.toString()))
    // Writing to a program that was just killed breaks the pipe; `exited` tells.
    child.stdin.on('error', () => undefined)
    this.exited = new Promise((resolve) => {
      child.once('error', (error) => this.#note(`${error.message}\n`))
      child.once('close', (code, signal) => {
        this.#exit = { code, signal }
        for (const waiter of this.#waiters) waiter.reject(this.#failure(`ended (${signal ?? code})`))
        resolve(this.#exit)
      })
    })
  }

  /** Starts a compiled program; does not wait for it to be ready. */
  static start(file: string | URL, options: ProgramOptions = {}): Program {
    return new Program(typeof file === 'string' ? file : fileURLToPath(file), options)
  }

  get pid(): number {
    const { pid } = this.#child
    if (pid === undefined) throw this.#failure('did not start')
    return pid
  }

  /** What the process is told on stdin. */
  send(message: JsonLine): void {
    this.#child.stdin.write(`${JSON.stringify(message)}\n`)
  }

  /**
   * The oldest line not handed out yet that is wanted, or the next such. Rejects when the process ends first or after
   * `timeoutMs`, with the last lines and stderr.
   */
  async nextLine(
    isWanted: (line: JsonLine) => boolean = () => true,
    timeoutMs: number = LINE_TIMEOUT_MS,
  ): Promise<JsonLine> {
    const index = this.#unread.findIndex(isWanted)
    const [line] = index < 0 ? [] : this.#unread.splice(index, 1)
    if (line !== undefined) return line
    if (this.#exit !== undefined) throw this.#failure('ended without such a line')
    const { promise, resolve, reject } = withResolvers<JsonLine>()
    const waiter = { isWanted, resolve, reject }
    const timer = setTimeout(
      () => reject(this.#failure(`wrote no such line within ${timeoutMs} ms`)),
      timeoutMs,
    )
    this.#waiters.add(waiter)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#waiters.delete(waiter)
    }
  }

  /** Sends a signal that ends the process, SIGKILL by default, and waits until it is gone. Twice is safe. */
  async kill(signal: 'SIGKILL' | 'SIGTERM' | 'SIGINT' = 'SIGKILL'): Promise<Exit> {
    if (this.#exit === undefined) this.#child.kill(signal)
    return await this.exited
  }

  /** SIGSTOP: as if its machine hung. */
  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }

  #onLine(text: string): void {
    const line = parseLine(text)
    if (line === undefined) {
      this.#note(`${text}\n`)
      return
    }
    this.lines.push(line)
    for (const waiter of this.#waiters) {
      if (!waiter.isWanted(line)) continue
      this.#waiters.delete(waiter)
      waiter.resolve(line)
      return
    }
    this.#unread.push(line)
  }

  #note(text: string): void {
    this.#stderr = (this.#stderr + text).slice(-MAX_STDERR_CHARS)
  }

  #failure(what: string): Error {
    const lines = this.lines.slice(-MAX_LINES_SHOWN).map((line) => JSON.stringify(line))
    return new Error([`${this.#name} ${what}; last lines:`, ...lines, 'stderr:', this.#stderr].join('\n'))
  }
}

function parseLine(text: string): JsonLine | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as JsonLine) : undefined
  } catch {
    return undefined
  }
}

function withResolvers<T>(): {
  promise: Promise<T>
  resolve: (value: T) => void
  reject: (error: Error) => void
} {
  let resolve!: (value: T) => void
  let reject!: (error: Error) => void
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue
    reject = onError
  })
  return { promise, resolve, reject }
}
