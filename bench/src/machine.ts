/** What the figures were measured on, in general terms. */
import { availableParallelism, platform } from 'node:os'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'

export interface Machine {
  readonly cores: number
  readonly platform: string
  readonly node: string
  readonly redis: string
  readonly summary: string
}

export async function describeMachine(): Promise<Machine> {
  await using server = await RedisServer.start()
  const info = await server.client().info('server')
  const redis = /^redis_version:(\S+)/m.exec(info)?.[1] ?? 'unknown'
  const facts = { cores: availableParallelism(), platform: platform(), node: process.versions.node, redis }
  const summary = `${facts.cores} cores, ${facts.platform}, Node ${facts.node}, Redis ${redis}, loopback`
  return { ...facts, summary }
}
