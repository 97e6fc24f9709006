/**
 * A Redis server of one's own: a process on a free port and a unix socket, in a temporary folder that goes with it.
 *
 *     await using server = await RedisServer.start()
 *     const redis = server.client()
 *
 * It can be stopped, killed, restarted with or without its data, and paused, which is how a machine that hangs looks.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis, type RedisOptions } from 'ioredis'
import { reapAtExit } from './child-reaper.js'
import { eventually } from './eventually.js'
import { releasePort, takePort } from './ports.js'

const READY_TIMEOUT_MS = 10_000
const PING_TIMEOUT_MS = 1_000
/** How often a start is tried again when somebody else listens on the port, or on that of the cluster bus. */
const MAX_STARTS = 5
const MAX_OUTPUT_CHARS = 20_000

export interface RedisServerOptions {
  /** More arguments for the server, for example `['--notify-keyspace-events', 'Ex']`. */
  readonly args?: readonly string[]
  /** What survives a restart: nothing (the default), the snapshot taken at a stop, or every write. */
  readonly persistence?: 'none' | 'rdb' | 'aof'
  /** Database number of `url` and of the clients made here; 0 by default. */
  readonly db?: number
  /** Folder for data and socket; a temporary one by default. A given folder is not removed. */
  readonly dir?: string
}

export interface RestartOptions {
  /** Come back with what the persistence kept (the default), with all data as they are now, or with none. */
  readonly data?: 'persisted' | 'saved' | 'empty'
  /** Kill instead of stopping in good order. */
  readonly crash?: boolean
  /** More arguments for this start alone. */
  readonly args?: readonly string[]
}

/** `replyMapping` is missing because it would change the type of the client. */
export type ClientOptions = Omit<RedisOptions, 'replyMapping'>

export class RedisServer implements AsyncDisposable {
  readonly dir: string
  readonly db: number
  readonly port: number
  readonly socketPath: string
  readonly #options: RedisServerOptions
  readonly #clients = new Set<Redis>()
  #process: ChildProcess | undefined
  #output = ''

  private constructor(options: RedisServerOptions, dir: string, port: number) {
    this.#options = options
    this.dir = dir
    this.db = options.db ?? 0
    this.port = port
    this.socketPath = join(dir, 'redis.sock')
  }

  /** Resolves when the server answers PING; rejects with its output when it cannot start. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    // The name is short because a unix socket's path is limited to about a hundred characters.
    const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'rsc-')))
    for (let starts = 1; ; starts++) {
      const server = new RedisServer(options, dir, await takePort())
      try {
        await server.#launch()
        return server
      } catch (error) {
        await server.kill()
        releasePort(server.port)
        if (starts < MAX_STARTS && /address already in use/i.test(server.#output)) continue
        if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
        throw error
      }
    }
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}/${this.db}`
  }

  get isRunning(): boolean {
    return this.#process !== undefined
  }

  /** A client on the unix socket (or on what `options` name), disconnected when the server is disposed of. */
  client(options: ClientOptions = {}): Redis {
    const where: ClientOptions = 'port' in options || 'path' in options ? {} : { path: this.socketPath }
    const settings: ClientOptions = { db: this.db, ...where, ...options }
    const client = new Redis(settings)
    // A test that takes its server away expects the errors, and ioredis would print each.
    client.on('error', () => undefined)
    client.once('end', () => this.#clients.delete(client))
    this.#clients.add(client)
    return client
  }

  /** Stops in good order: with persistence everything is on disk. Twice is safe. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM')
  }

  /** Ends the process at once, as a crash would. Twice is safe. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  /** Ends the server (if it runs) and starts it again on the same port and socket. */
  async restart({ data = 'persisted', crash = false, args = [] }: RestartOptions = {}): Promise<void> {
    if (data === 'saved') await this.#save()
    await this.#end(crash ? 'SIGKILL' : 'SIGTERM')
    const keepsNothing = (this.#options.persistence ?? 'none') === 'none' && data === 'persisted'
    if (data === 'empty' || keepsNothing) await this.#removeData()
    await this.#launch(args)
  }

  /** Starts a server that was stopped or killed, with what its folder holds. */
  async startAgain(): Promise<void> {
    if (this.#process === undefined) await this.#launch()
  }

  /** SIGSTOP: connections stay open, connects succeed, nothing is answered. */
  pause(): void {
    this.#process?.kill('SIGSTOP')
  }

  resume(): void {
    this.#process?.kill('SIGCONT')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.disconnect()
    this.#clients.clear()
    await this.kill()
    releasePort(this.port)
    if (this.#options.dir === undefined) await rm(this.dir, { recursive: true, force: true })
  }

  async #launch(args: readonly string[] = []): Promise<void> {
    const { bin, env } = serverBinary()
    const child = spawn(bin, [...this.#arguments(), ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#process = child
    this.#output = ''
    reapAtExit(child)
    const collect = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk.toString()).slice(-MAX_OUTPUT_CHARS)
    }
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.once('error', (error) => collect(Buffer.from(`${error.message}\n`)))
    child.once('exit', () => {
      if (this.#process === child) this.#process = undefined
    })
    const isGone = (): boolean =>
      this.#process !== child || child.exitCode !== null || child.pid === undefined
    const answer = await eventually(
      'the Redis server answers PING',
      async () => (isGone() ? 'gone' : ping(this.socketPath)),
      (seen) => seen === 'gone' || seen === 'PONG',
      { timeoutMs: READY_TIMEOUT_MS },
    )
    if (answer === 'gone') throw new Error(`the Redis server ${bin} ended at its start:\n${this.#output}`)
  }

  #arguments(): string[] {
    const persistence = this.#options.persistence ?? 'none'
    return [
      ...['--port', `${this.port}`, '--bind', '127.0.0.1'],
      ...['--unixsocket', this.socketPath, '--unixsocketperm', '700'],
      ...['--dir', this.dir, '--daemonize', 'no', '--logfile', ''],
      ...['--save', ...(persistence === 'rdb' ? ['3600', '1'] : [''])],
      ...['--appendonly', persistence === 'aof' ? 'yes' : 'no', '--appendfsync', 'always'],
      ...(this.#options.args ?? []),
    ]
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#process
    if (child === undefined) return
    this.#process = undefined
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    // A paused process hears SIGTERM only when it goes on.
    child.kill('SIGCONT')
    await exited
  }

  async #save(): Promise<void> {
    const client = this.client()
    try {
      await client.save()
    } finally {
      client.disconnect()
    }
  }

  async #removeData(): Promise<void> {
    for (const name of await readdir(this.dir)) {
      if (name.endsWith('.rdb') || name.startsWith('appendonly')) {
        await rm(join(this.dir, name), { recursive: true, force: true })
      }
    }
  }
}

/** The binary that the launcher or the global setup of the tests found. */
export function serverBinary(): { bin: string; env: NodeJS.ProcessEnv } {
  const { REDIS_SERVER_BIN: bin, REDIS_SERVER_LIBRARY_PATH: libraries } = process.env
  if (!bin)
    throw new Error('REDIS_SERVER_BIN is not set: start through `npm test`, `npm run demo` and the like')
  return { bin, env: libraries ? { ...process.env, LD_LIBRARY_PATH: libraries } : process.env }
}

/** One PING on a connection of its own: `PONG`, or the error the server answers (it may still be loading). */
function ping(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.setTimeout(PING_TIMEOUT_MS, () => socket.destroy(new Error('no answer to PING')))
    socket.once('connect', () => socket.write('PING\r\n'))
    socket.once('data', (answer) => {
      resolve(answer.toString().trim().replace(/^\+/, ''))
      socket.destroy()
    })
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed before it answered PING')))
  })
}
