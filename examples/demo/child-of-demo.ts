/** What both kinds of processes of the demo share: where they work, and when they leave. */
import { Redis } from 'ioredis'

export interface Workplace {
  readonly redis: Redis
  readonly service: string
}

/** What the process that started this one has given it. */
export function findWorkplace(): Workplace {
  const { REDIS_URL: url, DEMO_SERVICE: service } = process.env
  if (url === undefined || service === undefined) throw new Error('REDIS_URL and DEMO_SERVICE must be set')
  return { redis: new Redis(url), service }
}

/**
 * Calls `leave` on SIGTERM, or when the process that started this one is gone. Ctrl-C reaches every process of a
 * terminal: here it is for that one to decide.
 */
export function leaveWhenTold(leave: () => void): void {
  process.on('SIGINT', () => undefined)
  process.once('SIGTERM', leave)
  process.once('disconnect', leave)
}
