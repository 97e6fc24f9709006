/**
 * Hosts loops of plain commands through ioredis: the limit of what could be reached, without ownership, fencing or
 * anything else. The settings say which loops run.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { serve } from './host-program.js'

/** All are off unless given. */
interface BareSettings {
  /** XREADGROUP COUNT n BLOCK 1000 of what is new. */
  readonly readCount?: number
  /** XCLAIM JUSTID of everything this member has read, so that nobody finds it idle. */
  readonly refreshMs?: number
  /** XAUTOCLAIM of what others have left idle. */
  readonly autoclaim?: { readonly everyMs: number; readonly minIdleMs: number; readonly count: number }
}

type Entries = [id: string, fields: string[] | null][]

const REFRESH_BATCH = 500

const url = process.argv[2] as string

serve(async (member, { service, settings = {} }, ledger) => {
  const { autoclaim, readCount, refreshMs } = settings as BareSettings
  const lbs = `${service}-input`
  const group = `${service}-group`
  const held = new Set<string>()
  const redis = new Redis(url)
  const reader = new Redis(url)
  let isOver = false
  await redis.xgroup('CREATE', lbs, group, '0', 'MKSTREAM').catch(() => undefined) // it exists already
  await redis.xgroup('CREATECONSUMER', lbs, group, member)
  if (readCount !== undefined) void read(readCount).catch(endQuietly)
  if (refreshMs !== undefined) void refresh(refreshMs).catch(endQuietly)
  if (autoclaim !== undefined) void claim(autoclaim).catch(endQuietly)
  return {
    leave: async () => {
      isOver = true
      reader.disconnect()
      redis.disconnect()
    },
  }

  async function read(count: number): Promise<void> {
    while (!isOver) {
      const reply = await reader.xreadgroup(
        'GROUP',
        group,
        member,
        'COUNT',
        count,
        'BLOCK',
        1000,
        'STREAMS',
        lbs,
        '>',
      )
      for (const [, entries] of (reply ?? []) as [string, Entries][]) hold(entries, false)
    }
  }

  async function refresh(everyMs: number): Promise<void> {
    for (; !isOver; await sleep(everyMs)) {
      const ids = [...held]
      for (let start = 0; start < ids.length; start += REFRESH_BATCH) {
        await redis.xclaim(lbs, group, member, 0, ...ids.slice(start, start + REFRESH_BATCH), 'JUSTID')
      }
    }
  }

  async function claim({ everyMs, minIdleMs, count }: NonNullable<BareSettings['autoclaim']>): Promise<void> {
    for (; !isOver; await sleep(everyMs)) {
      for (let cursor = '0-0'; ; ) {
        const [next, entries] = (await redis.xautoclaim(
          lbs,
          group,
          member,
          minIdleMs,
          cursor,
          'COUNT',
          count,
        )) as [string, Entries]
        hold(entries, true)
        if (next === '0-0') break
        cursor = next
      }
    }
  }

  function hold(entries: Entries, isRecovered: boolean): void {
    for (const [id, fields] of entries) {
      held.add(id)
      ledger.taken(isRecovered, sentAtOf(fields))
    }
  }

  function endQuietly(error: unknown): void {
    if (!isOver) throw error
  }
})

/** Parses the message as every reader of the LBS must. */
function sentAtOf(fields: string[] | null): unknown {
  const index = fields?.indexOf('lbs-input') ?? -1
  if (fields === null || index < 0) return undefined
  return (JSON.parse(fields[index + 1] as string) as { Info?: { sentAtMs?: number } }).Info?.sentAtMs
}
