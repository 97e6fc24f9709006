/** What clients send to a server, seen with MONITOR: commands run by scripts do not count. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { RedisServer } from '@redis-stream-client/test/support/redis-server'

export interface SentCommands {
  readonly commands: number
  /** Those that name a heartbeat key and nothing else of the service. */
  readonly heartbeats: number
}

export async function countSent(server: RedisServer, windowMs: number): Promise<SentCommands> {
  const redis = server.client()
  const monitor = await redis.monitor()
  let commands = 0
  let heartbeats = 0
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    if (source === 'lua') return
    commands++
    if (isHeartbeat(args)) heartbeats++
  })
  await sleep(windowMs)
  monitor.disconnect()
  redis.disconnect()
  return { commands, heartbeats }
}

/** EVALSHA hash 1 heartbeat-key token ttl, as redlock extends. */
export function isHeartbeat([command = '', , keys, key = '']: readonly string[]): boolean {
  return /^eval/i.test(command) && keys === '1' && key.includes('-heartbeat:')
}
