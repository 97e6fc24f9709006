/** deal.lua and begin-session.lua on a real server: which client is given the entries that wait for an owner. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ConsumerName, formatConsumer } from '../src/decisions/consumer-name.js'
import type { DealRules, Dealt } from '../src/redis/service-scripts.js'
import { ScriptedService } from './support/scripted-service.js'

const FACTS = { maxOwnedStreams: 5, weight: 1, heartbeatTtlMs: 2000 }
const NOW: DealRules = { mode: 'take', idleMs: 0, tellMs: 1, tellAgainMs: 1, greatestMs: 60_000 }
const LATER: DealRules = { ...NOW, mode: 'tell', tellMs: 30_000, tellAgainMs: 50_000 }

let service: ScriptedService
let a: ConsumerName
let b: ConsumerName

beforeAll(async () => {
  service = await ScriptedService.start()
})
afterAll(() => service[Symbol.asyncDispose]())
beforeEach(async () => {
  await service.reset()
  a = await service.session('a', 't1')
  b = await service.session('b', 't2')
})

function idsOf(dealt: Dealt): string[] {
  if (dealt === 'SESSION_LOST') throw new Error('the session is over')
  return dealt.entries.map(([id]) => String(id))
}

/** Entries that a session has read, which is dead now. */
async function left(count: number): Promise<{ from: string; ids: string[] }> {
  const dead = await service.session('dead', 't0')
  for (let i = 0; i < count; i++) await service.add(`s${i}`)
  const ids = await service.read(dead, count)
  await service.kill(dead)
  return { from: formatConsumer(dead), ids }
}

async function consumers(): Promise<string[]> {
  const rows = (await service.redis.xinfo('CONSUMERS', service.keys.lbs, service.keys.group)) as string[][]
  return rows.map((row) => row[1] as string)
}

describe('a deal', () => {
  it('gives each entry of a dead consumer to one caller, with its fields', async () => {
    const { from, ids } = await left(5)
    const first = await service.scripts.deal(a, from, 2, NOW)
    const second = await service.scripts.deal(b, from, 3, NOW)
    expect([...idsOf(first), ...idsOf(second)]).toEqual(ids)
    expect(first).toMatchObject({ mayBeMore: true, waitMs: 0 })
    const [entry] = (second as Exclude<Dealt, string>).entries
    expect(entry?.[1]?.map(String)).toEqual(['lbs-input', '{"DataStreamName":"s2"}'])
    expect((await service.pending()).map(([, holder]) => holder)).toEqual([
      ...[1, 2].map(() => formatConsumer(a)),
      ...[1, 2, 3].map(() => formatConsumer(b)),
    ])
  })

  it('gives nothing of a living consumer, and nothing to a session that is over', async () => {
    await service.add('s')
    await service.read(b)
    expect(idsOf(await service.scripts.deal(a, formatConsumer(b), 10, NOW))).toEqual([])
    expect((await service.pending())[0]?.[1]).toBe(formatConsumer(b))
    const { from } = await left(1)
    await service.kill(a)
    expect(await service.scripts.deal(a, from, 10, NOW)).toBe('SESSION_LOST')
    expect((await service.pending())[1]?.[1]).toBe(from)
  })

  it('removes the name of the dead with its last entry, as does a claim', async () => {
    const { from } = await left(2)
    await service.scripts.deal(a, from, 1, NOW)
    expect(await consumers()).toContain(from)
    await service.scripts.deal(a, from, 10, NOW)
    expect(await consumers()).not.toContain(from)
    const again = await left(1)
    await service.take(b, again.ids[0] as string, 's0', { mode: 'claim' })
    expect(await consumers()).not.toContain(again.from)
  })

  it('removes the name also when exactly as many were asked for as were left', async () => {
    const { from, ids } = await left(3)
    expect(await service.scripts.deal(a, from, 2, NOW)).toMatchObject({ mayBeMore: true })
    const last = await service.scripts.deal(b, from, 1, NOW)
    expect(idsOf(last)).toEqual([ids[2]])
    expect(last).toMatchObject({ mayBeMore: false })
    expect(await consumers()).not.toContain(from)
  })

  it('removes the name also when the last entries had left the LBS', async () => {
    const { from, ids } = await left(3)
    await service.redis.xdel(service.keys.lbs, ...ids)
    expect(await service.scripts.deal(a, from, 2, NOW)).toMatchObject({ gone: 3 })
    expect(await service.scripts.deal(a, from, 2, NOW)).toMatchObject({ gone: 0, mayBeMore: false })
    expect(await consumers()).not.toContain(from)
  })

  it('acknowledges what has left the LBS, and says how many', async () => {
    const { from, ids } = await left(3)
    await service.redis.xdel(service.keys.lbs, ids[0] as string, ids[2] as string)
    const dealt = await service.scripts.deal(a, from, 10, NOW)
    expect(idsOf(dealt)).toEqual([ids[1]])
    expect(dealt).toMatchObject({ gone: 2 })
    expect((await service.pending()).map(([id]) => id)).toEqual([ids[1]])
  })

  it('ends early when the entries are large', async () => {
    const dead = await service.session('dead', 't0')
    for (let i = 0; i < 4; i++) await service.add(`s${i}`, 'more', 'x'.repeat(150_000))
    await service.read(dead)
    await service.kill(dead)
    const dealt = await service.scripts.deal(a, formatConsumer(dead), 10, NOW)
    expect(idsOf(dealt)).toHaveLength(2)
    expect(dealt).toMatchObject({ mayBeMore: true })
  })

  it('of entries that have waited leaves the others', async () => {
    const { from, ids } = await left(3)
    const { group, lbs } = service.keys
    await service.redis.xclaim(lbs, group, from, 0, ids[1] as string, 'IDLE', 5000, 'JUSTID')
    expect(idsOf(await service.scripts.deal(a, from, 10, { ...NOW, idleMs: 4000 }))).toEqual([ids[1]])
  })

  it('to tell of entries keeps them from the others for a while, and longer from the caller', async () => {
    const { from, ids } = await left(2)
    expect(idsOf(await service.scripts.deal(a, from, 10, LATER))).toEqual(ids)
    const [told] = (await service.pending()).map(([, holder]) => holder)
    const asked = await Promise.all([a, b].map((each) => service.scripts.deal(each, told as string, 10, NOW)))
    const [own, others] = asked.map((dealt) => (dealt as Exclude<Dealt, string>).waitMs) as [number, number]
    expect(others).toBeGreaterThan(25_000)
    expect(own).toBeGreaterThan(45_000)
    expect(asked.flatMap(idsOf)).toEqual([])
    const [line] = (await service.scripts.roster()).filter(({ consumer }) => consumer === told)
    expect(line).toMatchObject({ isAlive: false, pending: 2 })
    expect(line?.opensInMs).toBeGreaterThan(25_000)
    // A claim is not kept from anybody.
    const answer = await service.take(b, ids[0] as string, 's0', { mode: 'claim' })
    expect(answer).toMatchObject({ status: 'TAKEN' })
  })

  it('to tell of entries is open to others when the time is over', async () => {
    const { from, ids } = await left(1)
    await service.scripts.deal(a, from, 10, { ...LATER, tellMs: 1 })
    const [told] = (await service.pending()).map(([, holder]) => holder)
    await expect
      .poll(async () => idsOf(await service.scripts.deal(b, told as string, 10, NOW)), { timeout: 5000 })
      .toEqual(ids)
  })

  it('of what a client gave back leaves that client out for a while, and nobody else', async () => {
    const tenure = await service.own(a, 's')
    await service.scripts.release(a, [tenure], { ownMs: 60_000 })
    const [pool] = (await service.pending()).map(([, holder]) => holder)
    expect(await service.scripts.deal(a, pool as string, 1, NOW)).toMatchObject({ entries: [] })
    expect(idsOf(await service.scripts.deal(b, pool as string, 1, NOW))).toEqual([tenure.idInLbs])
  })
})

describe('the beginning of a session', () => {
  const begin = (session: ConsumerName) => service.scripts.beginSession(session, FACTS)

  it('answers earlier sessions of the client that left entries, and forgets those that left none', async () => {
    expect(await begin(a)).toMatchObject({ former: [] })
    await service.add('s')
    await service.read(a)
    const second = await service.session('a', 't2')
    expect(await begin(second)).toMatchObject({ former: [formatConsumer(a)] })
    const third = await service.session('a', 't3')
    expect(await begin(third)).toMatchObject({ former: [formatConsumer(a)] })
    expect(await begin(third)).toMatchObject({ former: [formatConsumer(a)] })
    expect(await consumers()).not.toContain(formatConsumer(second))
  })

  it('enters what the others need to know, which the roster shows', async () => {
    await begin(a)
    const roster = await service.scripts.roster()
    expect(roster.find(({ consumer }) => consumer === formatConsumer(a))?.facts).toMatchObject(FACTS)
    expect(roster.find(({ consumer }) => consumer === formatConsumer(b))?.facts.maxOwnedStreams).toBe(
      Infinity,
    )
  })

  it('is refused beside clients of another protocol, and changes nothing then', async () => {
    await service.redis.set(service.keys.protocol, '0')
    expect(await begin(a)).toEqual({ protocol: '0' })
    expect(await service.redis.exists(service.keys.members)).toBe(0)
  })

  it('is not for a session that is over', async () => {
    await service.kill(a)
    expect(await begin(a)).toBe('SESSION_LOST')
  })

  it('is forgotten with its end, or by the tidying once it is dead and nothing is left', async () => {
    await begin(a)
    await begin(b)
    await service.scripts.endSession(a, null)
    expect(Object.keys(await service.redis.hgetall(service.keys.members))).toEqual([b.clientId])
    await service.kill(b)
    expect(await service.scripts.forgetMembers([b.clientId, 'unknown'])).toBe(1)
    expect(await service.redis.exists(service.keys.members)).toBe(0)
  })
})
