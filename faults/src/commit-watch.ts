/**
 * What Redis accepts, in its order: MONITOR shows each checkpoint as the script of `commit` writes it. On a connection of its
 * own, because a client that monitors does not survive a restart of the server.
 */
import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

export interface AcceptedCommit {
  readonly stream: string
  readonly fence: number
  readonly job: number
}

const AGAIN_AFTER_MS = 10
const QUOTED = /"(?:[^"\\]|\\.)*"/g

export class CommitWatch {
  readonly commits: AcceptedCommit[] = []
  readonly #port: number
  readonly #checkpointsKey: string
  #isStopped = false
  #socket: Socket | undefined

  constructor(port: number, checkpointsKey: string) {
    this.#port = port
    this.#checkpointsKey = checkpointsKey
  }

  /** Watches until `stop`; begins again when the server has been away. */
  start(): void {
    const socket = connect(this.#port, '127.0.0.1', () => socket.write('MONITOR\r\n'))
    this.#socket = socket
    socket.on('error', () => undefined)
    const lines = createInterface({ input: socket }).on('line', (line) => this.#hear(line))
    lines.on('error', () => undefined)
    socket.once('close', () => {
      lines.close()
      if (!this.#isStopped) setTimeout(() => this.start(), AGAIN_AFTER_MS).unref()
    })
  }

  stop(): void {
    this.#isStopped = true
    this.#socket?.destroy()
  }

  #hear(line: string): void {
    if (!line.includes(this.#checkpointsKey)) return
    const [command, key, stream, value] = (line.match(QUOTED) ?? []).map((text) => JSON.parse(text) as string)
    if (command?.toLowerCase() !== 'hset' || key !== this.#checkpointsKey) return
    if (stream === undefined || value === undefined) return
    const { fence, job } = JSON.parse(value) as AcceptedCommit
    this.commits.push({ stream, fence, job })
  }
}
