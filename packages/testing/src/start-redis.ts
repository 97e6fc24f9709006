/** A real Redis server for one test or one file of tests. */
import { findRedisServer } from './server/find-redis.js'
import { isPortTaken, StartError } from './server/redis-process.js'
import { startTemporaryRedis } from './server/temporary-redis.js'
import type { FoundServer, RunningServer } from './server/types.js'
import { TestingError } from './testing-error.js'

const OPTIONS = ['port', 'version', 'args', 'download']
const VERSION = /^\d+(\.\d+){0,2}$/

export interface StartRedisOptions {
  /** A free one by default. */
  readonly port?: number | undefined
  /** How the version of the server has to begin, such as `'7'` or `'7.2'`. By default any from 6.2 on will do. */
  readonly version?: string | undefined
  /**
   * More arguments, such as `['--maxmemory', '64mb']`. Port, address and folder of the server are not among what they can
   * change.
   */
  readonly args?: readonly string[] | undefined
  /**
   * Where no server is found: fetch one, once, into a cache folder. From the packages of Debian or Ubuntu, or out of a
   * docker image. That takes seconds and blocks the process meanwhile. Default false.
   */
  readonly download?: boolean | undefined
}

/** A Redis server that was started for a test. It ends with the process that started it, however that ends. */
export interface TestRedis extends AsyncDisposable {
  /** `redis://127.0.0.1:<port>`. */
  readonly url: string
  readonly host: string
  readonly port: number
  /** Such as `7.0.15`. */
  readonly version: string
  /** Of the server's process. */
  readonly pid: number
  /** Stops the process (SIGSTOP), as a machine that hangs would: connections stay open and nothing is answered. */
  pause(): void
  /** Lets a paused server go on. */
  resume(): void
  /** Resolves when the server is gone, with its data. Never rejects. Safe twice, and while it is paused. */
  stop(): Promise<void>
}

/** What was found last, for the versions asked for: asking each program for its version takes longer than the start. */
const found = new Map<string, FoundServer>()

/**
 * Starts an empty server on this machine. It is looked for as REDIS_SERVER_BIN; as REDIS_SERVER_IMAGE, a docker image; as
 * redis-server or valkey-server on PATH and in the usual places; in the cache folder of this project.
 *
 *     await using redis = await startRedis()
 *     const client = new Redis(redis.url)
 *
 * Resolves when it answers. Rejects with a TestingError: OPTION_INVALID, REDIS_NOT_FOUND (the message says what was
 * tried and what would help), REDIS_NOT_STARTED (with what the server had to say).
 */
export async function startRedis(options: StartRedisOptions = {}): Promise<TestRedis> {
  checkOptions(options)
  const server = findServer(options)
  try {
    const { process, ...address } = await startTemporaryRedis(server, options)
    return new RunningRedis(process, server.version, address)
  } catch (error) {
    if (!(error instanceof StartError)) throw error
    const where = isPortTaken(error)
      ? `port ${options.port ?? ''} is taken: leave it out, or choose another. `
      : ''
    throw new TestingError('REDIS_NOT_STARTED', `startRedis: ${where}${error.message}`, { cause: error })
  }
}

class RunningRedis implements TestRedis {
  readonly url: string
  readonly host: string
  readonly port: number
  readonly version: string
  readonly pid: number
  readonly #process: RunningServer

  constructor(process: RunningServer, version: string, address: { url: string; host: string; port: number }) {
    this.#process = process
    this.url = address.url
    this.host = address.host
    this.port = address.port
    this.version = version
    this.pid = process.pid
  }

  pause(): void {
    this.#process.signal('SIGSTOP')
  }

  resume(): void {
    this.#process.signal('SIGCONT')
  }

  stop(): Promise<void> {
    return this.#process.end()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }
}

function findServer({ version, download = false }: StartRedisOptions): FoundServer {
  const key = version ?? ''
  const known = found.get(key)
  if (known !== undefined) return known
  if (process.platform === 'win32') {
    const way =
      'run the tests in WSL (https://learn.microsoft.com/windows/wsl/install), or use testcontainers'
    throw new TestingError('REDIS_NOT_FOUND', `startRedis: Redis does not run on Windows itself: ${way}`)
  }
  try {
    const server = findRedisServer({ version, download, log: (line) => process.stderr.write(`${line}\n`) })
    found.set(key, server)
    return server
  } catch (error) {
    const hint = download ? '' : '\nOr let it be fetched once: startRedis({ download: true })'
    const message = `startRedis: ${error instanceof Error ? error.message : String(error)}${hint}`
    throw new TestingError('REDIS_NOT_FOUND', message, { cause: error })
  }
}

function checkOptions(options: StartRedisOptions): void {
  const { port, version, args, download } = options
  const unknown = Object.keys(options).find((name) => !OPTIONS.includes(name))
  if (unknown !== undefined) throw invalid(unknown, `is not one of ${OPTIONS.join(', ')}`)
  if (port !== undefined && !(Number.isInteger(port) && port >= 1 && port <= 65_535)) {
    throw invalid('port', `must be a whole number from 1 to 65535, not ${port}`)
  }
  if (version !== undefined && !VERSION.test(version)) {
    throw invalid('version', `must be the beginning of a version, such as '7' or '7.2', not ${version}`)
  }
  if (args !== undefined && !(Array.isArray(args) && args.every((each) => typeof each === 'string'))) {
    throw invalid('args', 'must be an array of texts')
  }
  if (download !== undefined && typeof download !== 'boolean')
    throw invalid('download', 'must be true or false')
}

function invalid(option: string, rule: string): TestingError {
  return new TestingError('OPTION_INVALID', `startRedis: the option ${option} ${rule}`)
}
