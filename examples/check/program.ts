/** An example that runs as a process, line by line. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** Far more than it takes, as the machine may be busy with other things. */
const EXIT_TIMEOUT_MS = 30_000
const LINE_TIMEOUT_MS = 15_000

const running = new Set<Program>()

/** Kills those that have not ended, so that a check that failed leaves nothing behind. */
export function killAll(): void {
  for (const program of running) program.kill('SIGKILL')
}

export class Program {
  readonly name: string
  /** What it has written so far, to standard output and standard error. */
  readonly lines: string[] = []
  readonly #process: ChildProcess
  readonly #exited: Promise<number | NodeJS.Signals>

  /** `file`: its place below examples, without the ending. */
  constructor(file: string, env: NodeJS.ProcessEnv = {}) {
    this.name = [file, env['POD_NAME']].filter(Boolean).join(' ')
    const path = fileURLToPath(new URL(`../${file}.js`, import.meta.url))
    const child = spawn(process.execPath, [path], {
      env: { ...process.env, LOG_LEVEL: 'info', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#process = child
    running.add(this)
    for (const input of [child.stdout, child.stderr]) {
      createInterface({ input }).on('line', (line) => {
        this.lines.push(line)
        child.emit('line')
      })
    }
    this.#exited = once(child, 'close').then(([code, signal]) => {
      running.delete(this)
      return (signal ?? code) as number | NodeJS.Signals
    })
  }

  /** Resolves with the code or the signal it ended with. Rejects if it has not within `timeoutMs`. */
  async exit(timeoutMs: number = EXIT_TIMEOUT_MS): Promise<number | NodeJS.Signals> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.#failure(`has not ended within ${timeoutMs} ms`)), timeoutMs)
    })
    try {
      return await Promise.race([this.#exited, late])
    } finally {
      clearTimeout(timer)
    }
  }

  /** Resolves with the first `count` matches, written already or still to come. Rejects after `timeoutMs`. */
  async matches(pattern: RegExp, count = 1, timeoutMs: number = LINE_TIMEOUT_MS): Promise<RegExpExecArray[]> {
    const signal = AbortSignal.timeout(timeoutMs)
    for (;;) {
      const found = this.found(pattern)
      if (found.length >= count) return found.slice(0, count)
      await once(this.#process, 'line', { signal }).catch(() => {
        throw this.#failure(`has not written ${count} lines like ${String(pattern)} within ${timeoutMs} ms`)
      })
    }
  }

  /** The matches among what was written so far. */
  found(pattern: RegExp): RegExpExecArray[] {
    return this.lines.map((line) => pattern.exec(line)).filter((match) => match !== null)
  }

  kill(signal: 'SIGKILL' | 'SIGTERM'): void {
    this.#process.kill(signal)
  }

  #failure(what: string): Error {
    return new Error([`${this.name} ${what}; it wrote:`, ...this.lines].join('\n  '))
  }
}
