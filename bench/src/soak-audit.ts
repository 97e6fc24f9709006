/** What the owners of a soak write down, in a Redis of its own: the one under test stays as it is. */
import type { Redis } from 'ioredis'

export interface SoakSettings {
  readonly auditUrl: string
  readonly greatestWorkMs: number
  readonly stepMs: number
}

export const AUDIT_KEYS = {
  /** Hash: the greatest fence that acted, by stream. */
  fences: 'soak-fences',
  /** Set: streams whose owner came to the end of its work. */
  finished: 'soak-finished',
  /** List: owners that trusted themselves after a newer one had acted. */
  violations: 'soak-violations',
} as const

/** KEYS 1 fences; ARGV 1 stream 2 fence. Returns 1 if nobody newer has acted, else 0. */
export const STEP_LUA = `
local newest = redis.call('HGET', KEYS[1], ARGV[1])
if newest and tonumber(newest) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`

export async function readAudit(redis: Redis): Promise<{ finished: number; violations: string[] }> {
  const [finished, violations] = await Promise.all([
    redis.scard(AUDIT_KEYS.finished),
    redis.lrange(AUDIT_KEYS.violations, 0, -1),
  ])
  return { finished, violations }
}
