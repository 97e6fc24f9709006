/**
 * What Redis accepts, in its order: MONITOR shows each checkpoint as a script writes it. On a connection of its own, which
 * begins again whenever it is closed: by a restart, or by a server that has more to say than is read.
 */
import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'

export interface AcceptedCheckpoint {
  readonly stream: string
  /** Null: it was deleted. */
  readonly checkpoint: string | null
}

const AGAIN_AFTER_MS = 10
const QUOTED = /"(?:[^"\\]|\\.)*"/g

export class CommitWatch {
  readonly accepted: AcceptedCheckpoint[] = []
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
    const [command, key, stream, checkpoint] = readMonitorLine(line)
    if (key !== this.#checkpointsKey || stream === undefined) return
    const name = command?.toLowerCase()
    if (name === 'hdel') this.accepted.push({ stream, checkpoint: null })
    if (name === 'hset' && checkpoint !== undefined) this.accepted.push({ stream, checkpoint })
  }
}

/** The words of a command as MONITOR shows it; bytes that are no text come out as Latin-1. */
export function readMonitorLine(line: string): string[] {
  return (line.match(QUOTED) ?? []).map(
    (quoted) => JSON.parse(quoted.replaceAll(/\\(x..|.)/g, asJson)) as string,
  )
}

/** Redis escapes as C does, JSON otherwise. */
function asJson(escaped: string, code: string): string {
  if (code.startsWith('x')) return `\\u00${code.slice(1)}`
  return code === 'a' ? '\\u0007' : escaped
}
