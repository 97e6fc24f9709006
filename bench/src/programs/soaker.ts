/**
 * Hosts clients whose owners work for a while, writing to an audit as they go, so that it can be seen afterwards
 * whether two owners acted at once and whether a stream was dropped. `settings`: SoakSettings.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type OwnedStream, RedisStreamClient } from '@redis-stream-client/client'
import { Redis } from 'ioredis'
import type { SoakSettings } from '../soak-audit.js'
import { AUDIT_KEYS, STEP_LUA } from '../soak-audit.js'
import { serve } from './host-program.js'
import type { Ledger } from './ledger.js'

const redis = new Redis(process.argv[2] as string, { lazyConnect: true })
let audit: Redis | undefined

serve(async (member, { service, settings }, ledger) => {
  const { auditUrl, greatestWorkMs, stepMs } = settings as unknown as SoakSettings
  audit ??= new Redis(auditUrl)
  const client = new RedisStreamClient(redis, service, { consumerId: member, claimMode: 'auto' })
  const broker = await client.init()
  void listen()
  return { leave: () => client.close() }

  async function listen(): Promise<void> {
    for await (const notification of broker) {
      if (notification.type === 'StreamDisowned') ledger.disowned()
      if (notification.type !== 'StreamAdded') continue
      ledger.taken(notification.recovered)
      void work(notification.stream, ledger, greatestWorkMs, stepMs)
    }
  }
})

async function work(
  stream: OwnedStream,
  ledger: Ledger,
  greatestWorkMs: number,
  stepMs: number,
): Promise<void> {
  const { dataStreamName, fencingToken, signal } = stream
  const steps = Math.ceil((Math.random() * greatestWorkMs) / stepMs)
  try {
    for (let step = 0; step < steps; step++) {
      await sleep(stepMs, undefined, { signal })
      if (!stream.owned) return
      const isOvertaken = (await runStep(dataStreamName, fencingToken)) === 0
      // A step under way while trust ended proves nothing; trust after a newer owner has acted does.
      if (isOvertaken && stream.owned)
        await audit?.rpush(AUDIT_KEYS.violations, `${dataStreamName} ${fencingToken}`)
      await stream.commit(String(step))
    }
    if (!stream.owned) return
    await audit?.sadd(AUDIT_KEYS.finished, dataStreamName)
    await stream.done()
    ledger.done()
  } catch {
    await stream.release().catch(() => undefined) // asked to stop, or owned no more
  }
}

async function runStep(dataStreamName: string, fencingToken: number): Promise<unknown> {
  return await audit?.eval(STEP_LUA, 1, AUDIT_KEYS.fences, dataStreamName, String(fencingToken))
}
