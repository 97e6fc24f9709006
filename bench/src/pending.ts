/** Which consumers hold the entries of an LBS, from its pending list: what a client has really taken, whatever it reports. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { sharedNowMs } from './clock.js'

const LOOK_EVERY_MS = 20

/** Number of entries by consumer; those without any are missing. */
export async function heldByConsumer(redis: Redis, service: string): Promise<ReadonlyMap<string, number>> {
  const [, , , consumers] = (await redis.xpending(`${service}-input`, `${service}-group`)) as [
    count: number,
    first: string | null,
    last: string | null,
    consumers: [name: string, count: string][] | null,
  ]
  return new Map((consumers ?? []).map(([name, count]) => [name, Number(count)]))
}

export interface Held {
  readonly count: number
  /** When the last of them was seen to be taken, on the shared clock; 0 if none was. */
  readonly lastAtMs: number
}

/** Waits until consumers other than `formers` hold `goal` entries, or for so long. Answers how many they hold. */
export async function untilHeldByOthers(
  redis: Redis,
  service: string,
  { formers, goal, timeoutMs }: { formers: ReadonlySet<string>; goal: number; timeoutMs: number },
): Promise<Held> {
  const untilMs = sharedNowMs() + timeoutMs
  let held: Held = { count: 0, lastAtMs: 0 }
  for (;;) {
    const consumers = await heldByConsumer(redis, service)
    const count = [...consumers].reduce((sum, [name, each]) => (formers.has(name) ? sum : sum + each), 0)
    const nowMs = sharedNowMs()
    if (count !== held.count) held = { count, lastAtMs: nowMs }
    if (count >= goal || nowMs > untilMs) return held
    await sleep(LOOK_EVERY_MS)
  }
}
