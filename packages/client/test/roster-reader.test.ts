/** Who asks for the roster, and what is read for them. */
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { RosterReader } from '../src/agents/roster-reader.js'
import { systemClock } from '../src/decisions/clock.js'
import type { RosterLine, ServiceScripts } from '../src/redis/service-scripts.js'
import type { Persistence } from '../src/session/persist.js'
import type { Session } from '../src/session/session.js'

const roster: RosterLine[] = []
const held = { signal: new AbortController().signal } as Session

/** A reader of rosters that take `ms` to read; `startsMs` tells when each was begun. */
function readerOf(ms: number) {
  const startsMs: number[] = []
  const scripts = {
    roster: async () => {
      startsMs.push(performance.now())
      await delay(ms)
      return roster
    },
  } as unknown as ServiceScripts
  const persistence = {
    send: (_operation: string, session: Session, read: () => Promise<unknown>) =>
      session.signal.aborted ? Promise.reject(new Error('the session is over')) : read(),
  } as unknown as Persistence
  return { reader: new RosterReader(scripts, persistence, systemClock), startsMs }
}

describe('the roster', () => {
  it('is read once for all who ask before it is, and again for who asks after', async () => {
    const { reader, startsMs } = readerOf(20)
    const early = [reader.read(held), reader.read(held)]
    await expect.poll(() => startsMs.length).toBe(1)
    const late = [reader.read(held), reader.read(held)]
    await Promise.all([...early, ...late])
    expect(startsMs).toHaveLength(2)
  })

  it('is read the later again the longer it took', async () => {
    const { reader, startsMs } = readerOf(20)
    await reader.read(held)
    const endMs = performance.now()
    await reader.read(held)
    expect((startsMs[1] ?? 0) - endMs).toBeGreaterThan(150)
  })

  it('of a moment ago will do for who says so', async () => {
    const { reader, startsMs } = readerOf(1)
    const first = reader.recent(held)
    await expect.poll(() => startsMs.length).toBe(1)
    expect(await reader.recent(held)).toBe(await first)
    expect(await reader.recent(held)).toBe(roster)
    expect(startsMs).toHaveLength(1)
    await reader.read(held)
    expect(startsMs).toHaveLength(2)
  })

  it('is read for a new session though one that is over has asked before', async () => {
    const { reader, startsMs } = readerOf(1)
    const over = new AbortController()
    const lost = reader.read({ signal: over.signal } as Session)
    over.abort()
    const found = reader.read(held)
    await expect(lost).rejects.toThrow('the session is over')
    expect(await found).toBe(roster)
    expect(startsMs).toHaveLength(1)
  })
})
