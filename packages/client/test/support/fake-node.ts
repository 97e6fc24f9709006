/**
 * What ioredis takes for a sentinel, or for a node of a cluster, in which every node has as many slots. GET is answered
 * with MOVED, and not before the client has closed the connection, or with ASK; at ASKING it closes the connection itself.
 */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'

const SLOTS = 16_384

export class FakeNode implements AsyncDisposable {
  /** Commands that were received, in their order. */
  readonly received: string[] = []
  /** The masters, itself too. */
  nodes: readonly FakeNode[] = [this]
  /** The replica of each master. */
  replica: FakeNode | null = null
  /** Where to ask for what GET wants, while that moves. */
  importing: FakeNode | null = null
  /** The master it knows as a sentinel. */
  master: { readonly port: number } | null = null
  /** It refuses SET, as a replica refuses scripts that write. */
  isReplica = false
  /** It does not close when the client does. */
  isHalfOpen = false
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor() {
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket))
  }

  static async listen(): Promise<FakeNode> {
    const node = new FakeNode()
    node.#server.listen(0, '127.0.0.1')
    await once(node.#server, 'listening')
    return node
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Breaks the connections that are open now. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#sockets.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
    this.cut()
    await once(this.#server, 'close')
  }

  #serve(socket: Socket): void {
    let moved = ''
    this.#sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', (data) => {
      for (const command of commandsOf(data.toString())) {
        this.received.push(command)
        if (command === 'asking') socket.destroy()
        else if (command === 'get' && this.importing === null) moved += '-MOVED 0 127.0.0.1:1\r\n'
        else socket.write(this.#answer(command))
      }
    })
    socket.on('end', () => {
      if (!this.isHalfOpen) socket.end(moved)
    })
  }

  #answer(command: string): string {
    if (command === 'cluster slots') {
      const share = SLOTS / this.nodes.length
      const rows = this.nodes.map(({ port }, index) => {
        const slots = `:${index * share}\r\n:${(index + 1) * share - 1}\r\n`
        const nodes = [port, ...(this.replica === null ? [] : [this.replica.port])]
        return `*${2 + nodes.length}\r\n${slots}${nodes.map(nodeRow).join('')}`
      })
      return `*${rows.length}\r\n${rows.join('')}`
    }
    if (command === 'sentinel') return bulks('127.0.0.1', String(this.master?.port))
    if (command === 'cluster info') return '$16\r\ncluster_state:ok\r\n'
    if (command === 'get') return `-ASK 0 127.0.0.1:${this.importing?.port}\r\n`
    if (command === 'set' && this.isReplica)
      return "-READONLY You can't write against a read only replica.\r\n"
    return command === 'hello' ? "-ERR unknown command 'HELLO'\r\n" : '+OK\r\n'
  }
}

function bulks(...texts: string[]): string {
  return `*${texts.length}\r\n${texts.map((text) => `$${text.length}\r\n${text}\r\n`).join('')}`
}

function nodeRow(port: number): string {
  return `*3\r\n$9\r\n127.0.0.1\r\n:${port}\r\n$4\r\nnode\r\n`
}

/** The names of the commands in a piece of RESP, with the subcommand of CLUSTER. */
function commandsOf(text: string): string[] {
  return text
    .split(/^\*\d+\r\n/m)
    .filter(Boolean)
    .map((part) => {
      const words = part.split('\r\n').filter((line) => line !== '' && !line.startsWith('$'))
      const count = words[0]?.toLowerCase() === 'cluster' ? 2 : 1
      return words.slice(0, count).join(' ').toLowerCase()
    })
}
