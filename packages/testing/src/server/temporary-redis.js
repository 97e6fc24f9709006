/** An empty Redis server on a free port, in a folder that goes with it. */
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isPortTaken, RedisProcess } from './redis-process.js'

const HOST = '127.0.0.1'
/** How often a start is tried again when somebody else has taken the free port meanwhile. */
const MAX_STARTS = 5
/** The path of a unix socket may have about a hundred characters. */
const MAX_FOLDER_CHARS = 80
/** What `args` may change. */
const DEFAULTS = ['--save', '', '--appendonly', 'no']

/**
 * Resolves when the server answers; rejects with a StartError. It is asked through a unix socket in its own folder: on a
 * port that is taken already another server might answer.
 * @param {import('./types.js').Server} server
 * @param {{ port?: number | undefined, args?: readonly string[] | undefined }} [options]
 */
export async function startTemporaryRedis(server, { port: wanted, args = [] } = {}) {
  for (let starts = 1; ; starts++) {
    const port = wanted ?? (await freePort())
    const folder = mkdtempSync(join(tmpdir().length <= MAX_FOLDER_CHARS ? tmpdir() : '/tmp', 'rsc-'))
    const socketPath = join(folder, 'redis.sock')
    const place = ['--port', `${port}`, '--bind', HOST, '--dir', folder, '--unixsocket', socketPath]
    try {
      const all = [...DEFAULTS, ...args, ...place, '--daemonize', 'no']
      const running = await RedisProcess.start({ server, args: all, socketPath, folder })
      return { process: running, host: HOST, port, url: `redis://${HOST}:${port}` }
    } catch (error) {
      if (!isPortTaken(error) || wanted !== undefined || starts >= MAX_STARTS) throw error
    }
  }
}

async function freePort() {
  const server = createServer().listen(0, HOST)
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  server.close()
  await once(server, 'close')
  return port
}
