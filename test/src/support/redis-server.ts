/**
 * A Redis server of one's own: a process on a free port and a unix socket, in a temporary folder that goes with it.
 *
 *     await using server = await RedisServer.start()
 *     const redis = server.client()
 *
 * It can be stopped, killed, restarted with or without its data, and paused, which is how a machine that hangs looks.
 */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  isPortTaken,
  type RunningServer,
  type Server,
  startProcess,
} from '@redis-stream-client/testing/internal'
import { Redis, type RedisOptions } from 'ioredis'
import { releasePort, takePort } from './ports.js'

/** How often a start is tried again when somebody else listens on the port, or on that of the cluster bus. */
const MAX_STARTS = 5

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
  #process: RunningServer | undefined

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
        releasePort(server.port)
        if (starts < MAX_STARTS && isPortTaken(error)) continue
        if (options.dir === undefined) await rm(dir, { recursive: true, force: true })
        throw error
      }
    }
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}/${this.db}`
  }

  get isRunning(): boolean {
    return this.#process?.isRunning === true
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
    if (!this.isRunning) await this.#launch()
  }

  /** SIGSTOP: connections stay open, connects succeed, nothing is answered. */
  pause(): void {
    this.#process?.signal('SIGSTOP')
  }

  resume(): void {
    this.#process?.signal('SIGCONT')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.disconnect()
    this.#clients.clear()
    await this.kill()
    releasePort(this.port)
    if (this.#options.dir === undefined) await rm(this.dir, { recursive: true, force: true })
  }

  async #launch(args: readonly string[] = []): Promise<void> {
    this.#process = await startProcess({
      server: serverBinary(),
      args: [...this.#arguments(), ...args],
      socketPath: this.socketPath,
    })
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
    await this.#process?.end(signal)
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
export function serverBinary(): Server {
  const { REDIS_SERVER_BIN: bin, REDIS_SERVER_LIBRARY_PATH: libraries } = process.env
  if (!bin)
    throw new Error('REDIS_SERVER_BIN is not set: start through `npm test`, `npm run demo` and the like')
  return { bin, env: libraries ? { LD_LIBRARY_PATH: libraries } : {} }
}
