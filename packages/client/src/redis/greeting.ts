/**
 * Reads what a server sends to a new connection before it has received a command. A Redis that has no place for another
 * client sends an error and closes. ioredis writes first, and then learns only that the connection broke.
 */
import { createConnection, type NetConnectOpts, type Socket } from 'node:net'
import { startTimer } from '../async/timer.js'
import { isCluster, type RedisLike } from './duplicate.js'

const PATIENCE_MS = 500
const GREATEST_LENGTH = 200
const ERROR_REPLY = /^-([A-Z].*)\r\n/

/** The address of the other side of an established connection; null if there is none. */
export function peerOf(redis: RedisLike): NetConnectOpts | null {
  const { remoteAddress: host, remotePort: port } = (redis as { stream?: Socket }).stream ?? {}
  return host === undefined || port === undefined ? null : { host, port }
}

/**
 * Resolves with the error, or null if the server sends none for a while. `peer` is the address the last connection has led
 * to, which the options do not tell behind sentinels. Never rejects.
 */
export function hearGreeting(redis: RedisLike, peer: NetConnectOpts | null): Promise<string | null> {
  if (isCluster(redis) || redis.options.tls) return Promise.resolve(null)
  const { host, path, port, sentinels } = redis.options
  if (sentinels && peer === null) return Promise.resolve(null)
  const named = path ? { path } : { port: port ?? 6379, host: host ?? 'localhost' }
  return new Promise((resolve) => {
    const socket = createConnection((sentinels && peer) || named)
    let heard = ''
    const end = (): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(ERROR_REPLY.exec(heard)?.[1] ?? null)
    }
    const timer = startTimer(PATIENCE_MS, end)
    socket.on('data', (data) => {
      heard += data.toString('latin1')
      if (heard.includes('\r\n') || heard.length > GREATEST_LENGTH) end()
    })
    socket.on('error', end).on('close', end)
  })
}
