/** Free TCP ports of the loopback interface. */
import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * Asks the system for a port nobody listens on. It is free again when this resolves, so another process may take it
 * first: who binds it has to be ready to ask for a second one.
 */
export async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('a TCP server without a port')
  server.close()
  await once(server, 'close')
  return address.port
}
