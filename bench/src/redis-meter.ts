/** What a Redis server does in a stretch of time: commands by name, processor time, slow commands. */
import type { Redis } from 'ioredis'

/** Commands above this are kept in the slow log. */
const SLOW_US = 500

export interface RedisWork {
  /** Calls by command, those inside scripts too; not those of the meter. */
  readonly calls: Readonly<Record<string, number>>
  readonly cpuMs: number
  readonly overMs: number
  /** The longest command, 0 if none was slower than half a millisecond. */
  readonly slowestMs: number
  /** Median duration of a script call; NaN where the server does not say (before Redis 7). */
  readonly scriptMedianMs: number
}

export class RedisMeter {
  readonly #redis: Redis
  #beganMs = 0
  #cpuMs = 0

  constructor(redis: Redis) {
    this.#redis = redis
  }

  async begin(): Promise<void> {
    await this.#redis.config('SET', 'slowlog-log-slower-than', SLOW_US)
    await this.#redis.config('SET', 'slowlog-max-len', 10_000)
    await this.#redis.config('RESETSTAT')
    await this.#redis.slowlog('RESET')
    this.#cpuMs = await this.#readCpuMs()
    this.#beganMs = performance.now()
  }

  async end(): Promise<RedisWork> {
    const overMs = performance.now() - this.#beganMs
    const cpuMs = (await this.#readCpuMs()) - this.#cpuMs
    const calls = parseCalls(await this.#redis.info('commandstats'))
    const slow = (await this.#redis.slowlog('GET', 10_000)) as [number, number, micros: number, string[]][]
    const durations = slow.filter(([, , , args]) => !isOwn(args[0] ?? '')).map(([, , micros]) => micros)
    const latency = await this.#redis.info('latencystats')
    return {
      calls,
      cpuMs,
      overMs,
      slowestMs: Math.max(0, ...durations) / 1000,
      scriptMedianMs: parseScriptMedianMs(latency),
    }
  }

  async #readCpuMs(): Promise<number> {
    const info = await this.#redis.info('cpu')
    const seconds = (name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1])
    return (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1000
  }
}

/** Reads INFO commandstats. */
export function parseCalls(info: string): Record<string, number> {
  const calls: Record<string, number> = {}
  for (const [, name, count] of info.matchAll(/^cmdstat_(\S+?):calls=(\d+)/gm)) {
    if (name !== undefined && !isOwn(name)) calls[name] = Number(count)
  }
  return calls
}

export function totalCalls(calls: Readonly<Record<string, number>>): number {
  return Object.values(calls).reduce((sum, count) => sum + count, 0)
}

function parseScriptMedianMs(info: string): number {
  const micros = /^latency_percentiles_usec_evalsha:p50=([\d.]+)/m.exec(info)?.[1]
  return micros === undefined ? Number.NaN : Number(micros) / 1000
}

function isOwn(command: string): boolean {
  return /^(info|config|slowlog|monitor)/i.test(command)
}
