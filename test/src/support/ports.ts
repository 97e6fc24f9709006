/**
 * TCP ports of the loopback interface that stay one's own while nobody listens on them: a server that restarts and a
 * proxy that refuses come back to theirs.
 *
 * A port that the system chooses may be chosen for another process as soon as it is free. These are from below the range
 * it chooses from. Each process listens on the first port of a block for as long as it lives, and gives out the others
 * of the block in turn.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'

const FIRST_PORT = 10_000
const BLOCK_SIZE = 100
/** Below 20,000, because a node of a cluster listens on its port plus 10,000 as well. */
const BLOCKS = 100

/** The blocks of this process, held by the servers on their first ports. */
const blocks = new Map<number, Server>()
const taken = new Set<number>()
let lastTaken = 0
let adding: Promise<void> | null = null

/** Resolves with a port that nobody listens on, and that nobody else is given until it is released. */
export async function takePort(): Promise<number> {
  for (;;) {
    const ports = [...blocks.keys()].flatMap(portsOfBlock).filter((port) => !taken.has(port))
    const port = ports.find((each) => each > lastTaken) ?? ports[0]
    if (port === undefined) {
      adding ??= addBlock().finally(() => {
        adding = null
      })
      await adding
      continue
    }
    taken.add(port)
    lastTaken = port
    const probe = await listen(port)
    if (probe === null) continue // of a program that is not ours; its port stays taken
    probe.close()
    await once(probe, 'close')
    return port
  }
}

/** Whoever took a port is through with it. Twice is safe. */
export function releasePort(port: number): void {
  taken.delete(port)
}

function portsOfBlock(first: number): number[] {
  return Array.from({ length: BLOCK_SIZE - 1 }, (_, index) => first + 1 + index)
}

async function addBlock(): Promise<void> {
  for (let index = 0; index < BLOCKS; index++) {
    const first = FIRST_PORT + ((process.pid + index) % BLOCKS) * BLOCK_SIZE
    const server = await listen(first)
    if (server === null) continue
    server.unref()
    blocks.set(first, server)
    return
  }
  throw new Error(`no free ports from ${FIRST_PORT} to ${FIRST_PORT + BLOCKS * BLOCK_SIZE - 1}`)
}

/** A server on that port, or null if there is one already. */
async function listen(port: number): Promise<Server | null> {
  const server = createServer()
  try {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return server
  } catch {
    return null
  }
}
