/** What a script does must not grow with what has piled up, in number or in bytes. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ConsumerName, formatConsumer } from '../src/decisions/consumer-name.js'
import { ServiceScripts } from '../src/redis/service-scripts.js'
import type { TakeRules, Tenure } from '../src/redis/stream-scripts.js'
import { ScriptedService } from './support/scripted-service.js'

const FEW = 10
const MANY = 100_000
const BATCH = 50
const CLAIM: TakeRules = {
  mode: 'claim',
  maxCrashes: -1,
  crashWindowMs: 60_000,
  lbsIdleTimeMs: 40_000,
  formerTokens: [],
}
const ACQUIRE: TakeRules = { ...CLAIM, mode: 'acquire' }

/**
 * Fills every key of the service: entries pending under the session given and as many under a dead one, records and
 * checkpoints of dead owners, dead letters, names of dead consumers, and two backlogs in both of their keys. The ids in that
 * of `early` are smaller than those of all entries of the LBS, those in that of `late` are greater.
 */
const FILL = `
local lbs, locks, checkpoints, dead, early, early_late, late, late_late = unpack(KEYS)
local group, own, size = ARGV[1], ARGV[2], tonumber(ARGV[3])
local function pad(number) return string.format('%020.0f', number) end
for _, consumer in ipairs({ own, 'redis-consumer-dead:t' }) do
  for i = 1, size do
    redis.call('XADD', lbs, '*', 'lbs-input', '{"DataStreamName":"pending ' .. i .. '"}')
  end
  redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', size, 'STREAMS', lbs, '>')
end
for i = 1, size do
  redis.call('HSET', locks, 'locked ' .. i, '1-' .. i .. ' 7 1 0 0 redis-consumer-gone:t')
  redis.call('HSET', checkpoints, 'locked ' .. i, 'x')
  redis.call('XADD', dead, '*', 'reason', 'malformed')
  redis.call('XGROUP', 'CREATECONSUMER', lbs, group, 'redis-consumer-' .. i .. ':gone')
  local one, two = '5-' .. i, '99999999999999-' .. i
  redis.call('RPUSH', early, '["' .. one .. '","n","' .. i .. '"]')
  redis.call('RPUSH', late, '["' .. two .. '","n","' .. i .. '"]')
  redis.call('ZADD', early_late, 0, pad(4) .. '-' .. pad(i) .. ' ["4-' .. i .. '","n","late"]')
  redis.call('ZADD', late_late, 0, pad(99999999999998) .. '-' .. pad(i) .. ' ["99999999999998-' .. i .. '","n","late"]')
end`

interface Work {
  /** How often the scripts called each command. */
  readonly calls: Record<string, number>
  /** How many scripts were sent. */
  readonly scripts: number
  readonly ms: number
}

let service: ScriptedService
let a: ConsumerName

beforeAll(async () => {
  service = await ScriptedService.start()
})
beforeEach(async () => {
  await service.reset()
  a = await service.session('a', 't1')
})
afterAll(() => service[Symbol.asyncDispose]())

/** Counts what Redis does meanwhile. */
async function measure(act: () => Promise<unknown>): Promise<Work> {
  await service.redis.config('RESETSTAT')
  await act()
  const stats = await service.redis.info('commandstats')
  const rows = [...stats.matchAll(/^cmdstat_(\S+?):calls=(\d+),usec=(\d+)/gm)]
  const calls: Record<string, number> = {}
  let scripts = 0
  let usec = 0
  for (const [, command = '', count, time] of rows) {
    if (/^(config|info)/.test(command)) continue
    if (command === 'evalsha') scripts += Number(count)
    if (command.startsWith('eval')) usec += Number(time)
    else calls[command] = Number(count)
  }
  return { calls, scripts, ms: usec / 1000 }
}

/** Adds entries of streams and reads them as the session: answers what `take` takes. */
async function readNew(
  names: readonly string[],
): Promise<{ id: string; dataStreamName: string; knownFence: number }[]> {
  const ids: string[] = []
  for (const name of names) ids.push(await service.add(name))
  expect(await service.read(a, names.length)).toEqual(ids)
  return ids.map((id, index) => ({ id, dataStreamName: names[index] as string, knownFence: 0 }))
}

async function own(names: readonly string[]): Promise<Tenure[]> {
  const entries = await readNew(names)
  const answers = await service.scripts.take(a, entries, ACQUIRE)
  return entries.map(({ id, dataStreamName }, index) => {
    const answer = answers[index]
    if (typeof answer !== 'object' || answer.status !== 'TAKEN') throw new Error('not taken')
    return { idInLbs: id, dataStreamName, fencingToken: answer.fencingToken }
  })
}

const named = (what: string, count = BATCH): string[] =>
  Array.from({ length: count }, (_, i) => `${what} ${i}`)

/** Calls every script but those that read the roster, on a service in which `size` of everything have piled up. */
async function workAt(size: number): Promise<Map<string, Work>> {
  await service.reset()
  a = await service.session('a', 't1')
  const { keys, redis, scripts } = service
  const held = await own(['early', 'late'])
  const backlogs = ['early', 'late'].flatMap((name) => [keys.backlog(name), keys.late(name)])
  const filled = [keys.lbs, keys.locks, keys.checkpoints, keys.dead, ...backlogs]
  await redis.eval(FILL, filled.length, ...filled, keys.group, formatConsumer(a), size)
  const trimming = new ServiceScripts(service.connection, keys, { deadLetterMaxLen: 5 })
  const work = new Map<string, Work>()
  const note = async (what: string, act: () => Promise<unknown>): Promise<void> => {
    work.set(what, await measure(act))
  }

  const fresh = await readNew(named('fresh'))
  await note('take: new streams', () => scripts.take(a, fresh, ACQUIRE))
  const left = (await redis.xpending(keys.lbs, keys.group, '-', '+', FEW, 'redis-consumer-dead:t')) as [
    string,
  ][]
  // Not the last of them, with which the name of the dead would go.
  const claims = left
    .slice(0, -1)
    .map(([id], i) => ({ id, dataStreamName: `pending ${i + 1}`, knownFence: 0 }))
  await note('take: streams of a dead owner', () => scripts.take(a, claims, CLAIM))
  const appended = await readNew(Array.from({ length: BATCH }, () => 'early'))
  await note('take: entries that wait', () => scripts.take(a, appended, ACQUIRE))
  const inserted = await readNew(Array.from({ length: BATCH }, () => 'late'))
  await note('take: entries that wait before others', () => scripts.take(a, inserted, ACQUIRE))
  const tenures = await own(named('held'))
  await note('commit', () =>
    scripts.commit(
      a,
      tenures.map((tenure) => ({ tenure, number: 1, checkpoint: 'x' })),
    ),
  )
  await note('confirm', () => scripts.confirm(a, tenures))
  await note('release', () => scripts.release(a, tenures))
  await note('finish', () =>
    scripts.finish(
      a,
      held.map((each) => ({ ...each, keepCheckpoint: false })),
    ),
  )
  await service.read(a, held.length) // what waited behind them
  const letters = (await readNew(named('bad', 2 * BATCH))).map(({ id }) => ({
    id,
    reason: 'malformed',
    problem: '',
  }))
  await note('bury', () => scripts.bury(a, letters.slice(0, BATCH)))
  await note('bury and trim', () => trimming.bury(a, letters.slice(BATCH)))
  const locked = Array.from({ length: FEW }, (_, i) => `locked ${i + 1}`)
  await note('sweep', () => scripts.sweep(locked))
  const names = Array.from({ length: FEW }, (_, i) => `redis-consumer-${i + 1}:gone`)
  await note('remove-consumers', () => scripts.removeConsumers(names))
  await note('end-session', () => scripts.endSession(a, null))
  return work
}

it('no script does more where a hundred thousand of everything have piled up than where ten have', async () => {
  const few = await workAt(FEW)
  const many = await workAt(MANY)
  for (const [what, { calls, ms, scripts }] of many) {
    const reference = few.get(what) as Work
    expect({ what, scripts, ...calls }).toEqual({ what, scripts: reference.scripts, ...reference.calls })
    // Not how fast it is: work that grows with the number would take thousands of times as long.
    expect(ms, what).toBeLessThan(50 * reference.ms + 50)
  }
}, 120_000)

it('the roster reads of the members only those that live', async () => {
  const { keys, redis, scripts } = service
  await redis.hset(keys.members, a.clientId, '7 1 2000;t1')
  for (let i = 0; i < MANY; i += 1000) {
    const some = Array.from({ length: 1000 }, (_, k) => [`redis-consumer-gone-${i + k}`, '- 1 2000;t'])
    await redis.hset(keys.members, Object.fromEntries(some) as Record<string, string>)
  }
  const { calls } = await measure(async () => {
    const [line] = await scripts.roster()
    expect(line?.facts.maxOwnedStreams).toBe(7)
  })
  expect(calls).not.toHaveProperty('hgetall')
})

describe('of large entries a call moves a few, and the next one the rest', () => {
  const LARGE = 'x'.repeat(100_000)
  const callsOfScripts = async (act: () => Promise<unknown>): Promise<number> => (await measure(act)).scripts

  /** Takes entries that have to wait, until all are answered for. */
  async function queue(name: string, count: number): Promise<number> {
    const entries = []
    for (let i = 0; i < count; i++) {
      entries.push({ id: await service.add(name, 'n', LARGE), dataStreamName: name, knownFence: 0 })
    }
    await service.read(a, count)
    let calls = 0
    for (let answered = 0; answered < count; calls++) {
      const answers = await service.scripts.take(a, entries.slice(answered), ACQUIRE)
      if (answers === 'SESSION_LOST') throw new Error(answers)
      expect(answers.every(({ status }) => status === 'QUEUED')).toBe(true)
      answered += answers.length
    }
    return calls
  }

  beforeEach(async () => {
    await service.reset()
    a = await service.session('a', 't1')
    await service.redis.eval('return 1', 0)
  })

  it('when they have to wait', async () => {
    await own(['s'])
    expect(await queue('s', 12)).toBeGreaterThanOrEqual(4)
    expect((await service.backlog('s')).inOrder).toHaveLength(12)
  })

  it('when streams are finished behind which they wait', async () => {
    const names = named('s', 8)
    const tenures = await own(names)
    for (const name of names) await queue(name, 1)
    const answers: string[] = []
    const calls = await callsOfScripts(async () => {
      answers.push(
        ...(await service.scripts.finish(
          a,
          tenures.map((each) => ({ ...each, keepCheckpoint: false })),
        )),
      )
    })
    expect(answers).toEqual(names.map(() => 'OK'))
    expect(calls).toBeGreaterThanOrEqual(2)
    expect(await service.redis.xlen(service.keys.lbs)).toBe(8)
  })

  it('when streams are swept behind which they wait', async () => {
    const names = named('s', 8)
    const tenures = await own(names)
    for (const name of names) await queue(name, 1)
    await service.kill(a)
    await service.redis.xdel(service.keys.lbs, ...tenures.map(({ idInLbs }) => idInLbs))
    let freed: string[] = []
    const calls = await callsOfScripts(async () => {
      freed = await service.scripts.sweep(names)
    })
    expect(freed).toEqual(names)
    expect(calls).toBeGreaterThanOrEqual(2)
  })

  it('when it is asked whether they are still there', async () => {
    const tenures: Tenure[] = []
    for (const name of named('s', 8)) {
      const id = await service.add(name, 'n', LARGE)
      await service.read(a)
      const answer = await service.take(a, id, name)
      if (answer === 'SESSION_LOST' || answer.status !== 'TAKEN') throw new Error('not taken')
      tenures.push({ idInLbs: id, dataStreamName: name, fencingToken: answer.fencingToken })
    }
    let answers: unknown
    const calls = await callsOfScripts(async () => {
      answers = await service.scripts.confirm(a, tenures)
    })
    expect(answers).toEqual(tenures.map(() => 'OURS'))
    expect(calls).toBeGreaterThanOrEqual(3)
  })

  it('when they go to the dead letters', async () => {
    const letters = []
    for (let i = 0; i < 8; i++) {
      letters.push({ id: await service.add('s', 'n', LARGE), reason: 'malformed', problem: '' })
    }
    await service.read(a, 8)
    const answers = await service.scripts.bury(a, letters)
    expect(answers.length).toBeLessThan(4)
    expect(await service.redis.xlen(service.keys.dead)).toBe(answers.length)
    expect(await service.pending()).toHaveLength(8 - answers.length)
  })
})
