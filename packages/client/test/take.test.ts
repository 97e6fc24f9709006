import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ConsumerName, formatConsumer } from '../src/decisions/consumer-name.js'
import { ScriptedService } from './support/scripted-service.js'

let service: ScriptedService
beforeAll(async () => {
  service = await ScriptedService.start()
})
beforeEach(() => service.reset())
afterAll(() => service[Symbol.asyncDispose]())

const taken = expect.objectContaining({ status: 'TAKEN' })

describe('taking a stream nobody has', () => {
  it('gives it to the reader with a fence, and keeps the entry pending', async () => {
    const a = await service.session('a', 't1')
    const id = await service.add('s')
    await service.read(a)
    const before = Date.now() * 1000
    const answer = await service.take(a, id, 's')
    expect(answer).toMatchObject({ status: 'TAKEN', recovered: false, checkpoint: null, commits: 0 })
    if (answer === 'SESSION_LOST' || answer.status !== 'TAKEN') throw new Error('not taken')
    expect(answer.fencingToken).toBeGreaterThanOrEqual(before)
    expect(answer.fencingToken).toBeLessThan(Number.MAX_SAFE_INTEGER)
    expect(await service.redis.get(service.keys.fence)).toBe(String(answer.fencingToken))
    expect(await service.pending()).toEqual([[id, formatConsumer(a)]])
  })

  it('gives every stream of a call a fence of its own, each greater than the last', async () => {
    const a = await service.session('a', 't1')
    const ids = [await service.add('s1'), await service.add('s2'), await service.add('s3')]
    await service.read(a)
    const answers = await service.scripts.take(
      a,
      ids.map((id, index) => ({ id, dataStreamName: `s${index + 1}`, knownFence: 0 })),
      { mode: 'acquire', maxCrashes: -1, crashWindowMs: 1, lbsIdleTimeMs: 1, formerTokens: [] },
    )
    const fences = (answers as { fencingToken: number }[]).map((answer) => answer.fencingToken)
    expect(fences).toEqual([...fences].sort((x, y) => x - y))
    expect(new Set(fences).size).toBe(3)
    expect(Number(await service.redis.get(service.keys.fence))).toBe(fences[2])
  })

  it('never gives a fence that is not greater than the last, even when the clock of the server fell back', async () => {
    const a = await service.session('a', 't1')
    const ahead = (Date.now() + 3_600_000) * 1000
    await service.redis.set(service.keys.fence, String(ahead))
    expect((await service.own(a, 's')).fencingToken).toBe(ahead + 1)
  })

  it('answers again with the same fence when the first answer was lost', async () => {
    const a = await service.session('a', 't1')
    const tenure = await service.own(a, 's')
    for (const mode of ['acquire', 'claim'] as const) {
      const again = await service.take(a, tenure.idInLbs, 's', { mode })
      expect(again).toMatchObject({ status: 'TAKEN', fencingToken: tenure.fencingToken })
    }
  })

  it('lets the second wait when one call names a stream twice', async () => {
    const a = await service.session('a', 't1')
    const ids = [await service.add('s'), await service.add('s')]
    await service.read(a)
    const answers = await service.scripts.take(
      a,
      ids.map((id) => ({ id, dataStreamName: 's', knownFence: 0 })),
      { mode: 'acquire', maxCrashes: -1, crashWindowMs: 1, lbsIdleTimeMs: 1, formerTokens: [] },
    )
    expect((answers as { status: string }[]).map(({ status }) => status)).toEqual(['TAKEN', 'QUEUED'])
  })

  it('answers with a greater fence when this one was answered before: the record is an older one, come back', async () => {
    const a = await service.session('a', 't1')
    const tenure = await service.own(a, 's')
    const knownFence = tenure.fencingToken
    const again = await service.take(a, tenure.idInLbs, 's', { knownFence })
    expect(again).toMatchObject({ status: 'TAKEN', recovered: false })
    const fence = (again as { fencingToken: number }).fencingToken
    expect(fence).toBeGreaterThan(knownFence)
    expect(await service.record('s')).toContain(` ${fence} `)
    expect(await service.take(a, tenure.idInLbs, 's', { knownFence })).toMatchObject({ fencingToken: fence })
  })
})

describe('a session that is over', () => {
  it('takes nothing', async () => {
    const a = await service.session('a', 't1')
    const id = await service.add('s')
    await service.read(a)
    await service.session('a', 't2')
    expect(await service.take(a, id, 's')).toBe('SESSION_LOST')
    await service.kill(a)
    expect(await service.take(a, id, 's')).toBe('SESSION_LOST')
    expect(await service.record('s')).toBeNull()
  })
})

describe('entries that are not there', () => {
  it('are gone when they were never delivered, are acknowledged, or do not exist', async () => {
    const a = await service.session('a', 't1')
    const undelivered = await service.add('s')
    expect(await service.take(a, undelivered, 's', { mode: 'claim' })).toEqual({ status: 'GONE' })
    expect(await service.take(a, '1-1', 's', { mode: 'claim' })).toEqual({ status: 'GONE' })
  })

  it('are acknowledged when they left the LBS while pending, and their stream is freed', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const tenure = await service.own(a, 's')
    const second = await service.add('s')
    await service.read(b)
    expect(await service.take(b, second, 's')).toEqual({ status: 'QUEUED' })
    await service.kill(a)
    await service.redis.xdel(service.keys.lbs, tenure.idInLbs)
    expect(await service.take(b, tenure.idInLbs, 's', { mode: 'claim' })).toEqual({ status: 'GONE' })
    expect(await service.pending()).toEqual([])
    expect(await service.backlog('s')).toEqual({ inOrder: [], late: [] })
    const [next] = await service.read(b)
    expect(await service.take(b, next as string, 's')).toEqual(taken)
  })

  it('of the caller itself are freed once it knows', async () => {
    const a = await service.session('a', 't1')
    const tenure = await service.own(a, 's')
    const second = await service.add('s')
    await service.read(a)
    expect(await service.take(a, second, 's')).toEqual({ status: 'QUEUED' })
    await service.redis.xdel(service.keys.lbs, tenure.idInLbs)
    const record = await service.record('s')
    const { fencingToken } = tenure
    expect(await service.take(a, tenure.idInLbs, 's')).toEqual({ status: 'GONE', fencingToken })
    expect(await service.record('s')).toBe(record)
    await service.scripts.finish(a, [{ ...tenure, keepCheckpoint: false }])
    expect(await service.backlog('s')).toEqual({ inOrder: [], late: [] })
    expect(await service.pending()).toEqual([])
  })

  it('of a living owner are left to it', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const tenure = await service.own(a, 's')
    await service.redis.xdel(service.keys.lbs, tenure.idInLbs)
    expect(await service.take(b, tenure.idInLbs, 's', { mode: 'claim' })).toEqual({ status: 'GONE' })
    expect(await service.record('s')).toContain(formatConsumer(a))
  })
})

describe('whose entry it is', () => {
  it('acquire leaves what is pending under somebody else', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const id = await service.add('s')
    await service.read(a)
    expect(await service.take(b, id, 's')).toEqual({ status: 'LEFT' })
  })

  it('claim does not take what a living client has just read', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const id = await service.add('s')
    await service.read(a)
    expect(await service.take(b, id, 's', { mode: 'claim' })).toEqual({ status: 'CLAIMED' })
  })

  it('claim takes what a living client has read and left without a lock for the idle time', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const id = await service.add('s')
    await service.read(a)
    expect(await service.take(b, id, 's', { mode: 'claim', lbsIdleTimeMs: 0 })).toMatchObject({
      status: 'TAKEN',
      recovered: true,
    })
    expect(await service.pending()).toEqual([[id, formatConsumer(b)]])
  })

  it('claim never takes a locked stream from a living owner, however long it is idle', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const { idInLbs } = await service.own(a, 's')
    expect(await service.take(b, idInLbs, 's', { mode: 'claim', lbsIdleTimeMs: 0 })).toEqual({
      status: 'CLAIMED',
    })
  })

  it('claim takes over from a dead owner with a greater fence and the last checkpoint', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const tenure = await service.own(a, 's')
    await service.scripts.commit(a, [{ tenure, number: 1, checkpoint: 'position 5' }])
    await service.kill(a)
    const answer = await service.take(b, tenure.idInLbs, 's', { mode: 'claim' })
    expect(answer).toMatchObject({ status: 'TAKEN', recovered: true, checkpoint: 'position 5', commits: 0 })
    expect((answer as { fencingToken: number }).fencingToken).toBeGreaterThan(tenure.fencingToken)
    expect(await service.pending()).toEqual([[tenure.idInLbs, formatConsumer(b)]])
  })

  it('an earlier session of the same client is dead like any other', async () => {
    const before = await service.session('a', 't1')
    const tenure = await service.own(before, 's')
    const now = await service.session('a', 't2')
    expect(await service.take(now, tenure.idInLbs, 's', { mode: 'claim' })).toEqual(taken)
  })

  it('what the group delivered again after it was made anew goes back to its living owner', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const { idInLbs } = await service.own(a, 's')
    await service.redis.xgroup('DESTROY', service.keys.lbs, service.keys.group)
    await service.redis.xgroup('CREATE', service.keys.lbs, service.keys.group, '0')
    await service.read(b)
    expect(await service.take(b, idInLbs, 's')).toEqual({ status: 'CLAIMED' })
    expect(await service.pending()).toEqual([[idInLbs, formatConsumer(a)]])
  })

  it('its owner gets it back, should it be pending under somebody else', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const tenure = await service.own(a, 's')
    await service.redis.xclaim(service.keys.lbs, service.keys.group, formatConsumer(b), 0, tenure.idInLbs)
    expect(await service.take(a, tenure.idInLbs, 's', { mode: 'claim' })).toMatchObject({
      status: 'TAKEN',
      fencingToken: tenure.fencingToken,
    })
    expect(await service.pending()).toEqual([[tenure.idInLbs, formatConsumer(a)]])
  })
})

/** Reads the next entry and takes the stream `s`. */
async function takeNext(session: ConsumerName): Promise<{ idInLbs: string; fencingToken: number }> {
  const [idInLbs = ''] = await service.read(session, 1)
  const answer = await service.take(session, idInLbs, 's')
  if (answer === 'SESSION_LOST' || answer.status !== 'TAKEN') throw new Error('not taken')
  return { idInLbs, fencingToken: answer.fencingToken }
}

describe('a stream that is added again', () => {
  it('waits in the backlog, in the order of the ids, whatever the order of taking', async () => {
    const a = await service.session('a', 't1')
    const first = await service.own(a, 's')
    const ids: string[] = []
    for (let i = 0; i < 7; i++) ids.push(await service.add('s', 'n', String(i)))
    await service.read(a)
    for (const index of [2, 0, 4, 1, 6, 3, 5]) {
      expect(await service.take(a, ids[index] as string, 's')).toEqual({ status: 'QUEUED' })
    }
    const inOrder = [2, 4, 6].map((index) => ids[index])
    expect(await service.backlog('s')).toEqual({ inOrder, late: [0, 1, 3, 5].map((index) => ids[index]) })
    expect(await service.pending()).toEqual([[first.idInLbs, formatConsumer(a)]])
    expect(await service.redis.xlen(service.keys.lbs)).toBe(1)
    const served = await service.serveAll(a, first)
    expect(served.map((fields) => fields.at(-1))).toEqual(['0', '1', '2', '3', '4', '5', '6'])
    expect(await service.redis.keys('*')).not.toContain(service.keys.late('s'))
  })

  it('orders ids by number, not by text', async () => {
    const a = await service.session('a', 't1')
    await service.redis.xadd(service.keys.lbs, '5-1', 'lbs-input', '{"DataStreamName":"s"}')
    await service.read(a)
    const answer = await service.take(a, '5-1', 's')
    const ids = ['9-2', '9-10', '10-1', '99-1', '100-3']
    for (const id of ids)
      await service.redis.xadd(service.keys.lbs, id, 'lbs-input', '{"DataStreamName":"s"}', 'was', id)
    await service.read(a)
    const order = [3, 1, 4, 2, 0].map((index) => ids[index] as string)
    for (const id of order) expect(await service.take(a, id, 's')).toEqual({ status: 'QUEUED' })
    expect(answer).toMatchObject({ status: 'TAKEN' })
    const { fencingToken } = answer as { fencingToken: number }
    const served = await service.serveAll(a, { idInLbs: '5-1', dataStreamName: 's', fencingToken })
    expect(served.map((fields) => fields.at(-1))).toEqual(ids)
  })

  it('orders the greatest ids there can be', async () => {
    const a = await service.session('a', 't1')
    await service.own(a, 's')
    const ids = [
      '18446744073709551614-1',
      '18446744073709551615-3',
      '18446744073709551615-18446744073709551614',
    ]
    for (const id of ids)
      await service.redis.xadd(service.keys.lbs, id, 'lbs-input', '{"DataStreamName":"s"}')
    await service.read(a)
    for (const id of [...ids].reverse()) expect(await service.take(a, id, 's')).toEqual({ status: 'QUEUED' })
    expect(await service.backlog('s')).toEqual({ inOrder: ids.slice(2), late: ids.slice(0, 2) })
  })

  it('is served even if it came late and all that came in order is done', async () => {
    const a = await service.session('a', 't1')
    const first = await service.own(a, 's')
    const ids = [await service.add('s', 'n', 'early'), await service.add('s', 'n', 'later')]
    await service.read(a)
    for (const id of [...ids].reverse()) await service.take(a, id, 's')
    await service.redis.del(service.keys.backlog('s'))
    const served = await service.serveAll(a, first)
    expect(served.map((fields) => fields.at(-1))).toEqual(['early'])
  })

  it('keeps every field of the entry to the byte, wherever it waits', async () => {
    const a = await service.session('a', 't1')
    const tenure = await service.own(a, 's')
    const message = Buffer.from('{"DataStreamName":"s"}')
    const bytes = Buffer.from([0, 1, 34, 92, 47, 127, 128, 200, 255, 10])
    const ids: string[] = []
    for (let i = 0; i < 2; i++) {
      ids.push(String(await service.redis.xadd(service.keys.lbs, '*', 'lbs-input', message, bytes, bytes)))
    }
    await service.read(a)
    for (const id of [...ids].reverse()) await service.take(a, id, 's')
    for (const round of [1, 2]) {
      const { idInLbs, fencingToken } = round === 1 ? tenure : await takeNext(a)
      await service.scripts.finish(a, [{ ...tenure, idInLbs, fencingToken, keepCheckpoint: false }])
      const [[, fields] = []] = await service.redis.xrangeBuffer(service.keys.lbs, '-', '+')
      expect(fields).toEqual([Buffer.from('lbs-input'), message, bytes, bytes])
    }
  })

  it('goes to the dead letters when it has too many fields to be put back', async () => {
    const a = await service.session('a', 't1')
    await service.own(a, 's')
    const many = Array.from({ length: 8000 }, (_, index) => String(index))
    const id = await service.add('s', ...many)
    await service.read(a)
    expect(await service.take(a, id, 's')).toMatchObject({ status: 'DEAD', reason: 'unserviceable' })
    expect(await service.backlog('s')).toEqual({ inOrder: [], late: [] })
    expect((await service.deadLetters())[0]).toMatchObject({ id })
  })

  it('may not be claimed while it waits', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const c = await service.session('c', 't3')
    await service.own(a, 's')
    const second = await service.add('s')
    await service.read(b)
    await service.kill(b)
    expect(await service.take(c, second, 's', { mode: 'claim' })).toEqual({ status: 'QUEUED' })
  })

  it('is freed when the record belongs to a dead owner whose entry has left the LBS', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const tenure = await service.own(a, 's')
    await service.kill(a)
    await service.redis.xdel(service.keys.lbs, tenure.idInLbs)
    const second = await service.add('s')
    await service.read(b)
    expect(await service.take(b, second, 's')).toEqual({ status: 'QUEUED' })
    const [next] = await service.read(b)
    expect(await service.take(b, next as string, 's')).toEqual(taken)
  })

  it('waits behind an owner that is dead as long as that entry is still in the LBS', async () => {
    const a = await service.session('a', 't1')
    const b = await service.session('b', 't2')
    const tenure = await service.own(a, 's')
    await service.kill(a)
    const second = await service.add('s')
    await service.read(b)
    expect(await service.take(b, second, 's')).toEqual({ status: 'QUEUED' })
    expect(await service.take(b, tenure.idInLbs, 's', { mode: 'claim' })).toEqual(taken)
  })
})

describe('the crash rule', () => {
  const claim = { mode: 'claim', maxCrashes: 2 } as const

  it('moves the entry to the dead letters after more crashes than allowed, and serves the next', async () => {
    const a = await service.session('a', 't0')
    const { idInLbs } = await service.own(a, 's')
    const second = await service.add('s')
    await service.read(a)
    await service.take(a, second, 's')
    let owner = a
    for (let crash = 1; crash <= 2; crash++) {
      await service.kill(owner)
      owner = await service.session(`b${crash}`, `t${crash}`)
      expect(await service.take(owner, idInLbs, 's', claim)).toEqual(taken)
    }
    await service.kill(owner)
    const last = await service.session('c', 't9')
    expect(await service.take(last, idInLbs, 's', claim)).toMatchObject({
      status: 'DEAD',
      reason: 'max-crashes',
      error: expect.stringContaining('3 owners'),
    })
    const [letter] = await service.deadLetters()
    expect(letter).toMatchObject({ reason: 'max-crashes', id: idInLbs, client: last.clientId })
    expect(JSON.parse(letter?.['fields'] ?? '')).toEqual(['lbs-input', '{"DataStreamName":"s"}'])
    expect(Number(letter?.['at'])).toBeGreaterThan(Date.now() - 60_000)
    const [next] = await service.read(last)
    expect(await service.take(last, next as string, 's')).toEqual(taken)
  })

  it('counts no owner that held the stream for longer than the window', async () => {
    let owner = await service.session('a', 't0')
    const { idInLbs } = await service.own(owner, 's')
    for (let crash = 1; crash <= 5; crash++) {
      await service.kill(owner)
      owner = await service.session(`b${crash}`, `t${crash}`)
      expect(await service.take(owner, idInLbs, 's', { ...claim, crashWindowMs: 0 })).toEqual(taken)
    }
  })

  it('counts no owner that committed in between', async () => {
    let owner = await service.session('a', 't0')
    let tenure = await service.own(owner, 's')
    for (let crash = 1; crash <= 5; crash++) {
      await service.scripts.commit(owner, [{ tenure, number: 1, checkpoint: String(crash) }])
      await service.kill(owner)
      owner = await service.session(`b${crash}`, `t${crash}`)
      const answer = await service.take(owner, tenure.idInLbs, 's', { ...claim, maxCrashes: 1 })
      expect(answer).toEqual(taken)
      tenure = { ...tenure, fencingToken: (answer as { fencingToken: number }).fencingToken }
    }
  })

  it('counts no owner that gave the stream back', async () => {
    let owner = await service.session('a', 't0')
    let tenure = await service.own(owner, 's')
    for (let turn = 1; turn <= 5; turn++) {
      await service.scripts.release(owner, [tenure])
      owner = await service.session(`b${turn}`, `t${turn}`)
      const answer = await service.take(owner, tenure.idInLbs, 's', { ...claim, maxCrashes: 0 })
      expect(answer).toMatchObject({ status: 'TAKEN', recovered: true })
      tenure = { ...tenure, fencingToken: (answer as { fencingToken: number }).fencingToken }
    }
  })

  it('counts no own session that was lost', async () => {
    let owner = await service.session('a', 't0')
    const { idInLbs } = await service.own(owner, 's')
    for (let turn = 1; turn <= 5; turn++) {
      const former = owner.token
      owner = await service.session('a', `t${turn}`)
      expect(
        await service.take(owner, idInLbs, 's', { ...claim, maxCrashes: 0, formerTokens: [former, 'other'] }),
      ).toEqual(taken)
    }
  })
})

describe('what is damaged', () => {
  it('is refused with the record named, and nothing changes', async () => {
    const a = await service.session('a', 't1')
    await service.redis.hset(service.keys.locks, 's', 'rubbish')
    const id = await service.add('s')
    await service.read(a)
    await expect(service.take(a, id, 's')).rejects.toThrow(/damaged lock record: rubbish/)
    expect(await service.pending()).toEqual([[id, formatConsumer(a)]])
  })
})
