/**
 * A Redis server as a process that does not outlive the one that started it, however that ends.
 *
 *   this process ── stdin ──> sh, the guard ── starts ──> redis-server
 *
 * The guard reads its stdin. It ends when `end` closes it or when this process is gone, SIGKILL included: then the guard
 * kills the server and removes its folder. The server's output comes straight here, and ends with the server.
 * JavaScript without dependencies, because the launcher of this repository runs it before anything is installed.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** The first argument is a folder to remove, or nothing; the others are the command. Descriptor 3 gets the server's pid. */
const GUARD = `
folder=$1; shift
"$@" </dev/null 3>&- &
server=$!
trap '' HUP INT TERM
echo "$server" >&3
exec >/dev/null 2>&1 3>&-
read -r _
kill -9 "$server"
wait "$server"
if [ -n "$folder" ]; then PATH="$PATH:/bin:/usr/bin" rm -rf "$folder"; fi
`
const READY_TIMEOUT_MS = 10_000
const PING_TIMEOUT_MS = 1_000
const PING_EVERY_MS = 5
const MAX_OUTPUT_CHARS = 20_000

/** @typedef {import('./types.js').ProcessOptions} ProcessOptions */

/** The server did not come to answer. `output` is what it had to say. */
export class StartError extends Error {
  /**
   * @param {string} message
   * @param {string} output
   */
  constructor(message, output) {
    super(`${message}\n${output}`.trim())
    this.output = output
  }
}

/** True for the error of a start that failed because somebody else listens on the port, or on that of the cluster bus. */
export function isPortTaken(/** @type {unknown} */ error) {
  return error instanceof StartError && /address already in use/i.test(error.output)
}

/** @typedef {import('./types.js').RunningServer} RunningServer */
/** @implements {RunningServer} */
export class RedisProcess {
  /** @type {import('node:child_process').ChildProcess} */
  #guard
  /** @type {Promise<unknown>} */
  #guardGone
  /** @type {number | undefined} */
  #pid
  #output = ''
  #isRunning = true

  /** @param {ProcessOptions} options */
  constructor({ server: { bin, env }, args, folder = '' }) {
    // A process group of its own: Ctrl-C is for the programs, which want to say goodbye to their server.
    const guard = spawn('/bin/sh', ['-c', GUARD, 'guard', folder, bin, ...args], {
      env: { ...process.env, ...env },
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
      detached: true,
    })
    this.#guard = guard
    const note = (/** @type {Buffer | string} */ chunk) => {
      this.#output = `${this.#output}${String(chunk)}`.slice(-MAX_OUTPUT_CHARS)
    }
    guard.stdin.on('error', () => {}) // it is gone
    guard.stdio[3]?.on('data', (/** @type {Buffer} */ pid) => {
      this.#pid = Number(String(pid))
    })
    guard.stderr.on('data', note)
    guard.stdout.on('data', note).once('end', () => {
      this.#isRunning = false
      guard.stdin.end()
    })
    guard.once('error', (error) => {
      note(error.message)
      this.#isRunning = false
    })
    this.#guardGone = once(guard, 'close').catch(() => undefined)
    for (const handle of this.#handles()) handle.unref()
  }

  /**
   * Resolves with a server that answers PING; rejects with a StartError, after which nothing is left of it.
   * @param {ProcessOptions} options
   */
  static async start(options) {
    const server = new RedisProcess(options)
    const deadline = performance.now() + READY_TIMEOUT_MS
    while (server.#pid === undefined || !(await answersPing(options.socketPath))) {
      const isLate = performance.now() > deadline
      if (server.#isRunning && !isLate) {
        await sleep(PING_EVERY_MS)
        continue
      }
      await server.end()
      const what = isLate ? `did not answer within ${READY_TIMEOUT_MS} ms` : 'ended at its start'
      throw new StartError(`the Redis server ${options.server.bin} ${what}:`, server.#output)
    }
    return server
  }

  get pid() {
    return /** @type {number} */ (this.#pid)
  }

  get isRunning() {
    return this.#isRunning
  }

  /**
   * @param {NodeJS.Signals} signal
   */
  signal(signal) {
    try {
      if (this.#isRunning && this.#pid !== undefined) process.kill(this.#pid, signal)
    } catch (error) {
      // It has ended just now.
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error
    }
  }

  /**
   * @param {'SIGTERM' | 'SIGKILL'} [signal]
   */
  async end(signal = 'SIGKILL') {
    for (const handle of this.#handles()) handle.ref()
    this.signal(signal)
    if (signal === 'SIGTERM')
      this.signal('SIGCONT') // one that is paused hears SIGTERM only when it goes on
    else this.#guard.stdin?.end()
    await this.#guardGone
  }

  /** What keeps this process alive while somebody waits for the end of the server, and not before. */
  #handles() {
    const sockets = /** @type {import('node:net').Socket[]} */ (
      this.#guard.stdio.filter((each) => each !== null)
    )
    return [this.#guard, ...sockets]
  }
}

/**
 * One PING on a connection of its own.
 * @param {string} path
 * @returns {Promise<boolean>}
 */
function answersPing(path) {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.setTimeout(PING_TIMEOUT_MS, () => socket.destroy())
    socket.once('connect', () => socket.write('PING\r\n'))
    socket.once('data', (answer) => {
      // With a password the server answers NOAUTH, which says that it is up.
      resolve(/^(\+PONG|-NOAUTH|-DENIED)/.test(String(answer)))
      socket.destroy()
    })
    socket.on('error', () => {})
    socket.once('close', () => resolve(false))
  })
}
