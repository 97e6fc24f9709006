/** A process of the demo, as the one that started it sees it. */
import { type ChildProcess, fork } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Report } from './reports.js'

const OUTPUT_CHARS = 4000

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export class Child {
  readonly name: string
  /** Resolves when the process is gone and all its reports have arrived; never rejects. */
  readonly exited: Promise<Exit>
  readonly #process: ChildProcess
  #exit: Exit | undefined
  #output = ''

  /** `program`: the name of its file, without the ending. */
  constructor(name: string, program: string, env: NodeJS.ProcessEnv, onReport: (report: Report) => void) {
    this.name = name
    const file = fileURLToPath(new URL(`${program}.js`, import.meta.url))
    const child = fork(file, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
    this.#process = child
    child.on('message', (message) => onReport(message as Report))
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.#output = (this.#output + chunk.toString()).slice(-OUTPUT_CHARS)
      })
    }
    // SIGKILL ends one that is stopped, too.
    const killNow = (): boolean => child.kill('SIGKILL')
    process.once('exit', killNow)
    this.exited = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#output += error.message
      })
      child.once('close', (code, signal) => {
        process.off('exit', killNow)
        this.#exit = { code, signal }
        resolve(this.#exit)
      })
    })
  }

  /** How it ended, undefined while it runs. */
  get exit(): Exit | undefined {
    return this.#exit
  }

  /** The last of what it wrote. */
  get output(): string {
    return this.#output
  }

  signal(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    this.#process.kill(signal)
  }

  /** Lets it go on with what it has held back. */
  goOn(): void {
    this.#process.send('go on', () => undefined)
  }

  /** Asks it to leave, and makes it if it has not within `patienceMs`. */
  async end(patienceMs: number): Promise<Exit> {
    this.#process.kill('SIGCONT')
    this.#process.kill('SIGTERM')
    const patience = new AbortController()
    void sleep(patienceMs, undefined, { signal: patience.signal }).then(
      () => this.#process.kill('SIGKILL'),
      () => undefined, // it has left
    )
    const exit = await this.exited
    patience.abort()
    return exit
  }
}
