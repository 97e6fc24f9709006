/**
 * A TCP proxy that misbehaves on command: between a client and a Redis server it stands for the network.
 *
 * | call          | what the client sees                                                        |
 * | ------------- | --------------------------------------------------------------------------- |
 * | `cut`         | the connection breaks; a new one works                                      |
 * | `freeze`      | connects and writes succeed, nothing arrives on either side until `thaw`    |
 * | `delay`       | everything arrives late, in order, both ways                                |
 * | `throttle`    | everything arrives in pieces, so many bytes a second, each way              |
 * | `dropReplies` | the server executed the command, the answer is lost, the connection breaks  |
 * | `refuse`      | connects fail until `accept`; what is open stays open                       |
 * | `aim`         | new connections lead to another server, as when an address moves            |
 *
 * A fault is for all connections, present and future, or for those that `which` names.
 */
import { once } from 'node:events'
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net'
import { releasePort, takePort } from './ports.js'

const MAX_FIRST_CHARS = 4_096
/** Of what a throttled connection lets through in a second. */
const PIECES_PER_SECOND = 20

/** The index of a connection, counted from 0 in the order of connecting, or a predicate. */
export type Which = number | ((connection: ProxiedConnection) => boolean)

/** A port of 127.0.0.1, or a unix socket. */
export type Target = { readonly port: number } | { readonly path: string }

export interface ProxiedConnection {
  readonly index: number
  /** The start of what the client sent so far, at most 4,096 characters: HELLO, CLIENT SETNAME, the first commands. */
  readonly firstSent: string
  readonly isOpen: boolean
}

interface Fault {
  readonly which: Which | undefined
}

interface Delay extends Fault {
  readonly delayMs: number
}

interface Throttle extends Fault {
  readonly bytesPerSecond: number
}

interface ReplyDrop extends Fault {
  readonly matches: (request: string) => boolean
  left: number
}

export class TcpProxy implements AsyncDisposable {
  #target: NetConnectOpts
  readonly port: number
  readonly #connections: Connection[] = []
  #freezes: Fault[] = []
  #delays: Delay[] = []
  #throttles: Throttle[] = []
  #drops: ReplyDrop[] = []
  #repliesDropped = 0
  #server: Server | undefined

  private constructor(target: NetConnectOpts, port: number) {
    this.#target = target
    this.port = port
  }

  /** Listens on a free port of 127.0.0.1 and forwards to `target`: a port there, or the path of a unix socket. */
  static async listen(target: Target): Promise<TcpProxy> {
    const proxy = new TcpProxy(addressOf(target), await takePort())
    await proxy.accept()
    return proxy
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  /** All connections so far, the closed ones too. */
  get connections(): readonly ProxiedConnection[] {
    return this.#connections
  }

  /** How many answers `dropReplies` has swallowed. */
  get repliesDropped(): number {
    return this.#repliesDropped
  }

  /** Breaks the connections that are open now. */
  cut(which?: Which): void {
    for (const connection of this.#connections) {
      if (isMeant(which, connection)) connection.destroy()
    }
  }

  /** Half-open from now on: neither bytes nor the end of a connection get through. */
  freeze(which?: Which): void {
    this.#freezes.push({ which })
  }

  /** Ends every `freeze`; what was held back arrives. */
  thaw(): void {
    this.#freezes = []
    for (const connection of this.#connections) connection.pump()
  }

  /** Delays every byte by this long, each way. 0 ends all delays. */
  delay(delayMs: number, which?: Which): void {
    this.#delays = delayMs === 0 ? [] : [...this.#delays, { which, delayMs }]
  }

  /** Lets so many bytes through a second, each way and for each connection. 0 ends every throttle. */
  throttle(bytesPerSecond: number, which?: Which): void {
    this.#throttles = bytesPerSecond === 0 ? [] : [...this.#throttles, { which, bytesPerSecond }]
    for (const connection of this.#connections) connection.pump()
  }

  /** New connections lead there from now on; those that are open stay where they are. */
  aim(target: Target): void {
    this.#target = addressOf(target)
  }

  /**
   * The next `what` times (or the next time a request for which `what` is true was sent, as the text of one write)
   * the request is executed, the answer swallowed and the connection broken.
   */
  dropReplies(what: number | ((request: string) => boolean), which?: Which): void {
    const drop = typeof what === 'number' ? { matches: () => true, left: what } : { matches: what, left: 1 }
    this.#drops.push({ ...drop, which })
  }

  /** Stops listening: connects are refused. Twice is safe. */
  async refuse(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    // `close` as an event would wait for the connections, which stay.
    server.close()
    await new Promise(setImmediate)
  }

  /** Listens (again), on the same port as before. Twice is safe. */
  async accept(): Promise<void> {
    if (this.#server !== undefined) return
    const server = createServer((client) => this.#connect(client))
    this.#server = server
    server.listen(this.port, '127.0.0.1')
    await once(server, 'listening')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.refuse()
    this.cut()
    releasePort(this.port)
  }

  #connect(client: Socket): void {
    const connection = new Connection(this.#connections.length, client, connect(this.#target), {
      isFrozen: () => this.#freezes.some(({ which }) => isMeant(which, connection)),
      delayMs: () =>
        this.#delays.reduce((sum, { which, delayMs }) => sum + (isMeant(which, connection) ? delayMs : 0), 0),
      bytesPerSecond: () =>
        Math.min(
          ...this.#throttles
            .filter(({ which }) => isMeant(which, connection))
            .map(({ bytesPerSecond }) => bytesPerSecond),
        ),
      losesReplyTo: (request) => this.#takeDrop(connection, request),
      replyDropped: () => {
        this.#repliesDropped++
      },
    })
    this.#connections.push(connection)
  }

  #takeDrop(connection: Connection, request: string): boolean {
    const drop = this.#drops.find(({ which, matches }) => isMeant(which, connection) && matches(request))
    if (drop === undefined) return false
    drop.left--
    this.#drops = this.#drops.filter(({ left }) => left > 0)
    return true
  }
}

interface Faults {
  isFrozen(): boolean
  delayMs(): number
  /** Infinity without a throttle. */
  bytesPerSecond(): number
  losesReplyTo(request: string): boolean
  replyDropped(): void
}

class Connection implements ProxiedConnection {
  readonly index: number
  readonly #client: Socket
  readonly #server: Socket
  readonly #faults: Faults
  readonly #requests: Lane
  readonly #replies: Lane
  #firstSent = ''
  #replyIsLost = false

  constructor(index: number, client: Socket, server: Socket, faults: Faults) {
    this.index = index
    this.#client = client
    this.#server = server
    this.#faults = faults
    this.#requests = new Lane(server, faults)
    this.#replies = new Lane(client, faults)
    client.on('data', (chunk) => this.#onRequest(chunk))
    server.on('data', (chunk) => this.#onReply(chunk))
    client.once('close', () => this.#requests.push('end'))
    server.once('close', () => this.#replies.push('end'))
    // An error is followed by `close`, which passes the break on.
    client.on('error', () => undefined)
    server.on('error', () => undefined)
    client.setNoDelay(true)
    server.setNoDelay(true)
  }

  get firstSent(): string {
    return this.#firstSent
  }

  get isOpen(): boolean {
    return !this.#client.destroyed
  }

  pump(): void {
    this.#requests.pump()
    this.#replies.pump()
  }

  destroy(): void {
    this.#requests.drop()
    this.#replies.drop()
    this.#client.destroy()
    this.#server.destroy()
  }

  #onRequest(chunk: Buffer): void {
    const request = chunk.toString('latin1')
    this.#firstSent = (this.#firstSent + request).slice(0, MAX_FIRST_CHARS)
    if (!this.#replyIsLost && this.#faults.losesReplyTo(request)) this.#replyIsLost = true
    this.#requests.push(chunk)
  }

  /**
   * A lost reply does not break the connection at once: bytes that the server has not read yet would be lost with it.
   * The server is told the end instead; it executes what it was sent, closes, and then the client sees the break.
   */
  #onReply(chunk: Buffer): void {
    if (!this.#replyIsLost) {
      this.#replies.push(chunk)
    } else if (!this.#server.writableEnded) {
      this.#faults.replyDropped()
      this.#requests.push('end')
    }
  }
}

/** One direction of a connection: what waits, in order, until it is neither frozen nor early nor too much at once. */
class Lane {
  readonly #to: Socket
  readonly #faults: Faults
  #waiting: { readonly what: Buffer | 'end'; readonly dueMs: number }[] = []
  #timer: NodeJS.Timeout | undefined
  /** When the last piece is through. */
  #freeAtMs = 0

  constructor(to: Socket, faults: Faults) {
    this.#to = to
    this.#faults = faults
  }

  push(what: Buffer | 'end'): void {
    this.#waiting.push({ what, dueMs: performance.now() + this.#faults.delayMs() })
    this.pump()
  }

  pump(): void {
    clearTimeout(this.#timer)
    while (!this.#faults.isFrozen()) {
      const next = this.#waiting[0]
      if (next === undefined) return
      const bytesPerSecond = this.#faults.bytesPerSecond()
      const isThrottled = bytesPerSecond < Number.POSITIVE_INFINITY
      const dueMs = isThrottled ? Math.max(next.dueMs, this.#freeAtMs) : next.dueMs
      const earlyMs = dueMs - performance.now()
      if (earlyMs > 0) {
        this.#timer = setTimeout(() => this.pump(), Math.ceil(earlyMs))
        return
      }
      const piece = isThrottled ? this.#cutPiece(bytesPerSecond) : this.#waiting.shift()?.what
      if (piece === 'end') this.#to.end()
      else if (piece !== undefined && this.#to.writable) this.#to.write(piece)
    }
  }

  #cutPiece(bytesPerSecond: number): Buffer | 'end' | undefined {
    const next = this.#waiting.shift()
    if (next === undefined || next.what === 'end') return next?.what
    const piece = next.what.subarray(0, Math.ceil(bytesPerSecond / PIECES_PER_SECOND))
    const rest = next.what.subarray(piece.length)
    if (rest.length > 0) this.#waiting.unshift({ ...next, what: rest })
    this.#freeAtMs = performance.now() + (piece.length * 1000) / bytesPerSecond
    return piece
  }

  drop(): void {
    clearTimeout(this.#timer)
    this.#waiting = []
  }
}

function addressOf(target: Target): NetConnectOpts {
  return 'port' in target ? { port: target.port, host: '127.0.0.1' } : { path: target.path }
}

function isMeant(which: Which | undefined, connection: ProxiedConnection): boolean {
  if (which === undefined) return true
  return typeof which === 'number' ? which === connection.index : which(connection)
}
