/** A PostgreSQL server of one's own in a temporary folder, from the binaries on PATH. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, chownSync, constants, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { eventually } from '@redis-stream-client/test/support/eventually'
import postgres from 'postgres'

const PORT = 5432 // names the socket file; nothing listens on the network

/** Why no server can be started here, or null. */
export function whyNoPostgres(): string | null {
  const missing = ['postgres', 'initdb'].filter((name) => find(name) === null)
  if (missing.length > 0) return `${missing.join(' and ')} not on PATH`
  if (process.getuid?.() === 0 && accountOf('postgres') === null) {
    return 'PostgreSQL refuses to run as root, and there is no user postgres'
  }
  return null
}

export class PostgresServer implements AsyncDisposable {
  readonly sql: postgres.Sql
  readonly #dir: string
  readonly #process: ChildProcess

  private constructor(dir: string, child: ChildProcess) {
    this.#dir = dir
    this.#process = child
    this.sql = postgres({
      host: dir,
      port: PORT,
      username: 'postgres',
      database: 'postgres',
      onnotice: () => undefined,
    })
  }

  /** Resolves when the server answers. Only where `whyNoPostgres` is null. */
  static async start(): Promise<PostgresServer> {
    const account = process.getuid?.() === 0 ? accountOf('postgres') : null
    const dir = mkdtempSync(join(tmpdir(), 'pg-'))
    if (account !== null) chownSync(dir, account.uid, account.gid)
    const as = { cwd: dir, ...account, stdio: 'ignore' as const }
    const data = join(dir, 'data')
    const init = ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '--no-locale', '-E', 'UTF8']
    execFileSync(find('initdb') as string, init, as)
    const settings = ['fsync=off', 'listen_addresses=', `unix_socket_directories=${dir}`, `port=${PORT}`]
    const child = spawn(
      find('postgres') as string,
      ['-D', data, ...settings.flatMap((each) => ['-c', each])],
      as,
    )
    const server = new PostgresServer(dir, child)
    process.once('exit', () => child.kill('SIGKILL'))
    await eventually('PostgreSQL answers', () => server.sql`SELECT 1`, Boolean, {
      timeoutMs: 20_000,
      everyMs: 30,
    })
    return server
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sql.end({ timeout: 1 })
    const gone = once(this.#process, 'exit')
    this.#process.kill('SIGQUIT')
    await gone
    rmSync(this.#dir, { recursive: true, force: true })
  }
}

function find(name: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // the next one
    }
  }
  return null
}

function accountOf(user: string): { uid: number; gid: number } | null {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`${user}:`))
  const [, , uid, gid] = line?.split(':') ?? []
  return uid === undefined || gid === undefined ? null : { uid: Number(uid), gid: Number(gid) }
}
