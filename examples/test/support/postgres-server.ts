/** A PostgreSQL server of one's own in a temporary folder, from the programs that the global setup of the tests has found. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { reapAtExit } from '@redis-stream-client/test/support/child-reaper'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { releasePort, takePort } from '@redis-stream-client/test/support/ports'
import postgres from 'postgres'

const START_TIMEOUT_MS = 30_000

/** Why no server can be started here, or null. */
export function whyNoPostgres(): string | null {
  return process.env['POSTGRES_BIN_DIR']
    ? null
    : (process.env['POSTGRES_MISSING'] ?? 'nobody has looked for one')
}

export class PostgresServer implements AsyncDisposable {
  readonly url: string
  readonly sql: postgres.Sql
  readonly #dir: string
  readonly #port: number
  readonly #process: ChildProcess

  private constructor(dir: string, port: number, child: ChildProcess) {
    this.#dir = dir
    this.#port = port
    this.#process = child
    this.url = `postgres://postgres@127.0.0.1:${port}/postgres`
    this.sql = postgres(this.url, { onnotice: () => undefined })
  }

  /** Resolves when the server answers. Only where `whyNoPostgres` is null. */
  static async start(): Promise<PostgresServer> {
    const { POSTGRES_ACCOUNT, POSTGRES_BIN_DIR = '', POSTGRES_LIBRARY_PATH } = process.env
    // It refuses to run as root.
    const account = POSTGRES_ACCOUNT ? (JSON.parse(POSTGRES_ACCOUNT) as { uid: number; gid: number }) : null
    const dir = mkdtempSync(join(tmpdir(), 'pg-'))
    if (account !== null) chownSync(dir, account.uid, account.gid)
    const libraries = POSTGRES_LIBRARY_PATH ? { LD_LIBRARY_PATH: POSTGRES_LIBRARY_PATH } : {}
    const as = { cwd: dir, ...account, env: { ...process.env, ...libraries }, stdio: 'ignore' as const }
    const data = join(dir, 'data')
    const init = ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '--no-locale', '-E', 'UTF8']
    execFileSync(join(POSTGRES_BIN_DIR, 'initdb'), init, as)
    const port = await takePort()
    const settings = ['fsync=off', 'listen_addresses=127.0.0.1', 'unix_socket_directories=', `port=${port}`]
    const args = ['-D', data, ...settings.flatMap((each) => ['-c', each])]
    const child = spawn(join(POSTGRES_BIN_DIR, 'postgres'), args, as)
    reapAtExit(child)
    const server = new PostgresServer(dir, port, child)
    await eventually('PostgreSQL answers', () => server.sql`SELECT 1`, Boolean, {
      timeoutMs: START_TIMEOUT_MS,
      everyMs: 30,
    })
    return server
  }

  /** The number of statements that wait for a lock. */
  async waiting(): Promise<number> {
    const [row] = await this.sql<{ count: string }[]>`SELECT count(*) FROM pg_locks WHERE NOT granted`
    return Number(row?.count)
  }

  /** Keeps a table from being written to, until what this resolves with is called. */
  async holdUp(table: string): Promise<() => Promise<void>> {
    const held = await this.sql.reserve()
    await held`BEGIN`
    await held`LOCK TABLE ${held(table)} IN SHARE MODE`
    return async () => {
      await held`COMMIT`
      held.release()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sql.end({ timeout: 1 })
    const gone = once(this.#process, 'exit')
    this.#process.kill('SIGQUIT')
    await gone
    releasePort(this.#port)
    rmSync(this.#dir, { recursive: true, force: true })
  }
}
