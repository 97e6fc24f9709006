/**
 * The reference in Go, github.com/handcoding-labs/redis-stream-client-go, as a host program of the bench. It is built
 * in a temporary folder, with the module that the `go` command gets there.
 */
import { execFile } from 'node:child_process'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const MODULE = 'github.com/handcoding-labs/redis-stream-client-go'
/** The release that bench/peers/go is written for. */
export const GO_VERSION = 'v0.4.0'
const SOURCE = fileURLToPath(new URL('../peers/go', import.meta.url))
const STEP_TIMEOUT_MS = 120_000
const PROGRAM = 'peer'

const run = promisify(execFile)

export class GoPeer implements AsyncDisposable {
  readonly #dir: string

  private constructor(dir: string) {
    this.#dir = dir
  }

  /** The peer, or in one line why there is none. */
  static async build(): Promise<GoPeer | string> {
    const dir = await mkdtemp(join(tmpdir(), 'rsc-go-'))
    const go = async (...args: string[]): Promise<void> => {
      await run('go', args, { cwd: dir, timeout: STEP_TIMEOUT_MS })
    }
    try {
      await cp(SOURCE, dir, { recursive: true })
      await go('get', `${MODULE}@${GO_VERSION}`)
      await go('mod', 'tidy')
      await go('build', '-o', PROGRAM, '.')
      return new GoPeer(dir)
    } catch (error) {
      await rm(dir, { recursive: true, force: true })
      return reasonOf(error)
    }
  }

  get program(): string {
    return join(this.#dir, PROGRAM)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true })
  }
}

function reasonOf(error: unknown): string {
  const { code, stderr } = error as { code?: unknown; stderr?: string }
  if (code === 'ENOENT') return 'the command go is not on the PATH'
  const lines = (stderr ?? String(error)).trim().split('\n')
  return lines.slice(-2).join(' ').trim()
}
