import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type ConsumerName, formatConsumer } from '../src/decisions/consumer-name.js'
import { ServiceScripts } from '../src/redis/service-scripts.js'
import { ScriptedService } from './support/scripted-service.js'

let service: ScriptedService
let a: ConsumerName
let b: ConsumerName
beforeAll(async () => {
  service = await ScriptedService.start()
})
beforeEach(async () => {
  await service.reset()
  a = await service.session('a', 't1')
  b = await service.session('b', 't2')
})
afterAll(() => service[Symbol.asyncDispose]())

const finish = { keepCheckpoint: false }

describe('finish', () => {
  it('removes the entry, the record and the checkpoint', async () => {
    const tenure = await service.own(a, 's')
    await service.scripts.commit(a, [{ tenure, number: 1, checkpoint: 'x' }])
    expect(await service.scripts.finish(a, [{ ...tenure, ...finish }])).toEqual(['OK'])
    expect(await service.redis.keys('*')).not.toContain(service.keys.locks)
    expect(await service.redis.hlen(service.keys.checkpoints)).toBe(0)
    expect(await service.redis.xlen(service.keys.lbs)).toBe(0)
    expect(await service.pending()).toEqual([])
  })

  it('keeps the checkpoint when told to', async () => {
    const tenure = await service.own(a, 's')
    await service.scripts.commit(a, [{ tenure, number: 1, checkpoint: 'x' }])
    await service.scripts.finish(a, [{ ...tenure, keepCheckpoint: true }])
    expect(await service.redis.hget(service.keys.checkpoints, 's')).toBe('x')
  })

  it('puts the first of the backlog back into the LBS and reserves the stream for it', async () => {
    const tenure = await service.own(a, 's')
    for (const n of ['1', '2']) {
      const id = await service.add('s', 'n', n)
      await service.read(a)
      await service.take(a, id, 's')
    }
    await service.scripts.finish(a, [{ ...tenure, ...finish }])
    const [[id, fields] = ['', []]] = await service.redis.xrange(service.keys.lbs, '-', '+')
    expect(fields).toEqual(['lbs-input', '{"DataStreamName":"s"}', 'n', '1'])
    expect(await service.record('s')).toMatch(new RegExp(`^${id} 0 \\d+ 0 0 $`))
    const late = await service.add('s', 'n', '3')
    await service.read(b)
    expect(await service.take(b, late, 's')).toEqual({ status: 'QUEUED' })
    expect(await service.take(b, id, 's')).toMatchObject({ status: 'TAKEN', recovered: false })
  })

  it('puts an entry of the backlog back with the bytes it had, whether they are text or not', async () => {
    const tenure = await service.own(a, 's')
    const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
    const fields = [Buffer.from('lbs-input'), Buffer.from('{"DataStreamName":"s"}'), everyByte, everyByte]
    const id = await service.redis.xadd(service.keys.lbs, '*', ...fields)
    await service.read(a)
    expect(await service.take(a, id as string, 's')).toEqual({ status: 'QUEUED' })
    await service.scripts.finish(a, [{ ...tenure, ...finish }])
    const [entry] = await service.redis.xrangeBuffer(service.keys.lbs, '-', '+')
    expect(entry?.[1]).toEqual(fields)
  })

  it('is safe to send again', async () => {
    const tenure = await service.own(a, 's')
    await service.scripts.finish(a, [{ ...tenure, ...finish }])
    expect(await service.scripts.finish(a, [{ ...tenure, ...finish }])).toEqual(['OK'])
    const again = await service.own(b, 's')
    expect(await service.scripts.finish(a, [{ ...tenure, ...finish }])).toEqual(['OK'])
    expect(await service.record('s')).toContain(String(again.fencingToken))
  })

  it('changes nothing for a session that is over', async () => {
    const tenure = await service.own(a, 's')
    await service.kill(a)
    expect(await service.scripts.finish(a, [{ ...tenure, ...finish }])).toEqual(['SESSION_LOST'])
    expect(await service.record('s')).toContain(String(tenure.fencingToken))
    expect(await service.redis.xlen(service.keys.lbs)).toBe(1)
  })

  it('changes nothing for a caller that is not the owner', async () => {
    const tenure = await service.own(a, 's')
    expect(await service.scripts.finish(b, [{ ...tenure, ...finish }])).toEqual(['NOT_OWNED'])
    expect(await service.record('s')).toContain(formatConsumer(a))
  })
})

describe('release', () => {
  it('reserves the stream for its entry, which goes to the pool, and tells the others with the level', async () => {
    const tenure = await service.own(a, 's')
    const subscriber = service.redis.duplicate()
    await subscriber.subscribe(service.keys.failoverChannel)
    const heard = new Promise((resolve) => subscriber.once('message', (_, message) => resolve(message)))
    await service.redis.set(service.keys.level, '2.5 3 2')
    expect(await service.scripts.release(a, [tenure])).toEqual(['OK'])
    const message = { type: 'waiting', consumer: 'pool:0', level: 2.5, living: 3, firstLevel: 2 }
    expect(JSON.parse(String(await heard))).toEqual(message)
    subscriber.disconnect()
    expect(await service.record('s')).toMatch(
      new RegExp(`^${tenure.idInLbs} ${tenure.fencingToken} \\d+ 0 0 $`),
    )
    expect(await service.pending()).toEqual([[tenure.idInLbs, 'pool:0']])
    const answer = await service.take(b, tenure.idInLbs, 's', { mode: 'claim' })
    expect(answer).toMatchObject({ status: 'TAKEN', recovered: true })
  })

  it('frees a stream whose entry has left the LBS: what waits for it is served next', async () => {
    const tenure = await service.own(a, 's')
    const next = await service.add('s')
    await service.read(b)
    expect(await service.take(b, next, 's')).toEqual({ status: 'QUEUED' })
    await service.redis.xdel(service.keys.lbs, tenure.idInLbs)
    expect(await service.scripts.release(a, [tenure])).toEqual(['OK'])
    const [entry] = await service.redis.xrange(service.keys.lbs, '-', '+')
    expect(await service.record('s')).toMatch(new RegExp(`^${entry?.[0]} 0 `))
    expect(await service.redis.exists(service.keys.backlog('s'))).toBe(0)
    expect(await service.pending()).toEqual([])
  })

  it('is safe to send again, also when somebody else has it by then', async () => {
    const tenure = await service.own(a, 's')
    await service.scripts.release(a, [tenure])
    expect(await service.scripts.release(a, [tenure])).toEqual(['OK'])
    await service.take(b, tenure.idInLbs, 's', { mode: 'claim' })
    expect(await service.scripts.release(a, [tenure])).toEqual(['OK'])
    expect(await service.record('s')).toContain(formatConsumer(b))
  })

  it('changes nothing for a session that is over, or for who is not the owner', async () => {
    const tenure = await service.own(a, 's')
    expect(await service.scripts.release(b, [tenure])).toEqual(['NOT_OWNED'])
    await service.kill(a)
    expect(await service.scripts.release(a, [tenure])).toEqual(['SESSION_LOST'])
    expect(await service.record('s')).toContain(formatConsumer(a))
  })
})

describe('commit', () => {
  it('stores the checkpoint of the owner', async () => {
    const tenure = await service.own(a, 's')
    expect(await service.scripts.commit(a, [{ tenure, number: 1, checkpoint: '' }])).toEqual(['OK'])
    expect(await service.redis.hget(service.keys.checkpoints, 's')).toBe('')
  })

  it('does not let one that arrives late undo a later one', async () => {
    const tenure = await service.own(a, 's')
    await service.scripts.commit(a, [{ tenure, number: 2, checkpoint: 'later' }])
    expect(await service.scripts.commit(a, [{ tenure, number: 1, checkpoint: 'earlier' }])).toEqual(['OK'])
    expect(await service.redis.hget(service.keys.checkpoints, 's')).toBe('later')
  })

  it('changes nothing under an old fence, for another client, or for a session that is over', async () => {
    const tenure = await service.own(a, 's')
    const old = { ...tenure, fencingToken: tenure.fencingToken - 1 }
    expect(await service.scripts.commit(a, [{ tenure: old, number: 1, checkpoint: 'x' }])).toEqual([
      'NOT_OWNED',
    ])
    expect(await service.scripts.commit(b, [{ tenure, number: 1, checkpoint: 'x' }])).toEqual(['NOT_OWNED'])
    await service.kill(a)
    expect(await service.scripts.commit(a, [{ tenure, number: 1, checkpoint: 'x' }])).toEqual([
      'SESSION_LOST',
    ])
    expect(await service.redis.exists(service.keys.checkpoints)).toBe(0)
  })
})

describe('confirm', () => {
  it('tells ours from lost and from gone', async () => {
    const [ours, lost, gone] = [
      await service.own(a, 's1'),
      await service.own(a, 's2'),
      await service.own(a, 's3'),
    ]
    await service.redis.hdel(service.keys.locks, 's2')
    await service.redis.xdel(service.keys.lbs, gone.idInLbs)
    expect(await service.scripts.confirm(a, [ours, lost, gone])).toEqual(['OURS', 'LOST', 'GONE'])
  })

  it('leaves a stream whose entry is gone to its owner, who frees it once it knows', async () => {
    const tenure = await service.own(a, 's')
    const waiting = await service.add('s')
    await service.read(b)
    await service.take(b, waiting, 's')
    await service.redis.xdel(service.keys.lbs, tenure.idInLbs)
    const record = await service.record('s')
    expect(await service.scripts.confirm(a, [tenure])).toEqual(['GONE'])
    expect(await service.record('s')).toBe(record)
    expect(await service.read(b)).toEqual([])
    expect(await service.scripts.finish(a, [{ ...tenure, keepCheckpoint: false }])).toEqual(['OK'])
    expect(await service.read(b)).toHaveLength(1)
    expect((await service.pending()).map(([id]) => id)).not.toContain(tenure.idInLbs)
  })

  it('takes the entry back when it is pending under another consumer', async () => {
    const tenure = await service.own(a, 's')
    await service.redis.xclaim(service.keys.lbs, service.keys.group, 'x', 0, tenure.idInLbs)
    expect(await service.scripts.confirm(a, [tenure])).toEqual(['OURS'])
    expect(await service.pending()).toEqual([[tenure.idInLbs, formatConsumer(a)]])
  })

  it('answers SESSION_LOST to a session that is over', async () => {
    const tenure = await service.own(a, 's')
    await service.kill(a)
    expect(await service.scripts.confirm(a, [tenure])).toBe('SESSION_LOST')
  })
})

describe('bury', () => {
  const letter = (id: string) => [{ id, reason: 'malformed', problem: 'not JSON' }]

  it('moves an entry to the dead letters with all its fields', async () => {
    const id = String(await service.redis.xadd(service.keys.lbs, '*', 'lbs-input', '{', 'more', '1'))
    await service.read(a)
    expect(await service.scripts.bury(a, letter(id))).toEqual(['BURIED'])
    const [found] = await service.deadLetters()
    expect(found).toMatchObject({ reason: 'malformed', error: 'not JSON', id, client: a.clientId })
    expect(JSON.parse(found?.['fields'] ?? '')).toEqual(['lbs-input', '{', 'more', '1'])
    expect(await service.redis.xlen(service.keys.lbs)).toBe(0)
    expect(await service.pending()).toEqual([])
    expect(await service.scripts.bury(a, letter(id))).toEqual(['GONE'])
  })

  it('leaves what a living client has, takes what a dead one had', async () => {
    const id = await service.add('s')
    await service.read(b)
    expect(await service.scripts.bury(a, letter(id))).toEqual(['LEFT'])
    await service.kill(b)
    expect(await service.scripts.bury(a, letter(id))).toEqual(['BURIED'])
  })

  it('drops what has left the LBS, and nothing for a session that is over', async () => {
    const id = await service.add('s')
    await service.read(a)
    await service.redis.xdel(service.keys.lbs, id)
    expect(await service.scripts.bury(a, letter(id))).toEqual(['GONE'])
    expect(await service.pending()).toEqual([])
    await service.kill(a)
    expect(await service.scripts.bury(a, letter(id))).toBe('SESSION_LOST')
  })
})

describe('end of a session', () => {
  it('removes the heartbeat key only if it still is its own', async () => {
    await service.session('a', 't9')
    await service.scripts.endSession(a, null)
    expect(await service.redis.get(service.keys.heartbeat(a.clientId))).toBe('t9')
    await service.scripts.endSession({ ...a, token: 't9' }, null)
    expect(await service.redis.get(service.keys.heartbeat(a.clientId))).toBeNull()
  })

  it('tells the others of a consumer that leaves entries, and removes one that leaves none', async () => {
    const subscriber = service.redis.duplicate()
    await subscriber.subscribe(service.keys.failoverChannel)
    const messages: string[] = []
    subscriber.on('message', (_, message) => messages.push(message))
    await service.add('s')
    await service.read(a)
    await service.scripts.endSession(b, { level: null })
    await service.scripts.endSession(a, { level: { level: 1, living: 2 } })
    const message = { type: 'waiting', consumer: formatConsumer(a), level: 1, living: 2, firstLevel: null }
    await expect.poll(() => messages.map((text) => JSON.parse(text) as unknown)).toEqual([message])
    expect((await service.scripts.roster()).map((line) => line.consumer)).toEqual([formatConsumer(a)])
    const consumers = await service.redis.xinfo('CONSUMERS', service.keys.lbs, service.keys.group)
    expect(consumers).toHaveLength(1)
    subscriber.disconnect()
  })

  it('destroys nothing where it may not see what is pending', async () => {
    const id = await service.add('s')
    await service.read(a)
    await service.redis.call('ACL', 'SETUSER', 'default', '-xpending')
    try {
      await service.scripts.endSession(a, { level: null })
    } finally {
      await service.redis.call('ACL', 'SETUSER', 'default', '+xpending')
    }
    expect(await service.redis.exists(service.keys.heartbeat(a.clientId))).toBe(0)
    expect(await service.pending()).toEqual([[id, formatConsumer(a)]])
  })

  it('needs no group', async () => {
    await service.redis.flushall()
    await service.scripts.endSession(a, null)
    expect(await service.redis.exists(service.keys.lbs)).toBe(0)
  })
})

describe('roster and probe', () => {
  it('tell the living from the dead, and what keys have left', async () => {
    await service.redis.pexpire(service.keys.heartbeat(a.clientId), 60_000)
    await service.add('s')
    await service.read(b)
    await service.kill(b)
    await service.redis.xgroup('CREATECONSUMER', service.keys.lbs, service.keys.group, 'idle stranger')
    await service.add('s2')
    await service.read({ clientId: 'busy', token: 'x' })
    const lines = await service.scripts.roster({ withEnds: true })
    const roster = new Map(lines.map((line) => [line.consumer, line]))
    expect(roster.get(formatConsumer(a))).toMatchObject({ pending: 0, isAlive: true })
    expect(roster.get(formatConsumer(a))?.ttlMs).toBeGreaterThan(50_000)
    expect(roster.get(formatConsumer(b))).toMatchObject({ pending: 1, isAlive: false, ttlMs: -2 })
    expect(roster.get('busy:x')).toMatchObject({ pending: 1, isAlive: false })
    expect(roster.size).toBe(3)
    expect((await service.scripts.roster()).map((line) => line.ttlMs)).toEqual([-2, -2, -2])
  })

  it('count the earlier session of a client that lives again as dead', async () => {
    await service.add('s')
    await service.read(a)
    await service.session('a', 't9')
    const lines = await service.scripts.roster()
    expect(lines.find(({ consumer }) => consumer === formatConsumer(a))).toMatchObject({ isAlive: false })
  })

  it('count one that has nothing pending and has not read for long as dead', async () => {
    const impatient = new ServiceScripts(service.connection, service.keys, { silentMs: 0 })
    await service.add('s')
    await service.read(b)
    expect((await impatient.roster()).map((line) => line.consumer)).toEqual([formatConsumer(b)])
  })

  it('let one client win a round', async () => {
    const won = { lines: [{ consumer: formatConsumer(a) }, { consumer: formatConsumer(b) }] }
    expect(await service.scripts.probe(a.clientId, 60_000)).toMatchObject(won)
    expect(await service.scripts.probe(b.clientId, 60_000)).toEqual({ level: '' })
    await service.redis.set(service.keys.level, '2 3')
    expect(await service.scripts.probe(b.clientId, 60_000)).toEqual({ level: '2 3' })
    await service.redis.del(service.keys.probe)
    expect(await service.scripts.probe(b.clientId, 60_000)).toMatchObject(won)
  })

  it('say to the winner of a round how many entries nobody has read', async () => {
    for (const name of ['s', 't', 'u']) await service.add(name)
    await service.read(b)
    await service.add('v')
    expect(await service.scripts.probe(a.clientId, 60_000)).toMatchObject({ undelivered: 1 })
  })

  it('answer an empty roster where there is no group', async () => {
    await service.redis.flushall()
    expect(await service.scripts.roster()).toEqual([])
  })
})

describe('sweep', () => {
  it('frees what is held by nobody alive and whose entry is gone, and nothing else', async () => {
    const gone = await service.own(b, 'gone')
    const kept = await service.own(b, 'kept')
    const living = await service.own(a, 'living')
    await service.kill(b)
    await service.redis.xdel(service.keys.lbs, gone.idInLbs, living.idInLbs)
    expect(await service.scripts.sweep(['gone', 'kept', 'living', 'unknown'])).toEqual(['gone'])
    expect(await service.record('gone')).toBeNull()
    expect(await service.record('kept')).toContain(String(kept.fencingToken))
    expect(await service.record('living')).toContain(String(living.fencingToken))
    expect((await service.pending()).map(([id]) => id)).toEqual([kept.idInLbs, living.idInLbs])
  })
})

describe('removal of consumers', () => {
  it('removes the dead that have nothing pending, and no others', async () => {
    await service.add('s')
    await service.read(b)
    await service.kill(b)
    const c = await service.session('c', 't3')
    await service.kill(c)
    const former = { ...a, token: 'former' }
    await service.redis.xgroup('CREATECONSUMER', service.keys.lbs, service.keys.group, formatConsumer(former))
    const names = [...[a, b, c, former].map(formatConsumer), 'not one of ours', 'unknown:x']
    expect(await service.scripts.removeConsumers(names)).toEqual([
      'ALIVE',
      'PENDING',
      'REMOVED',
      'REMOVED',
      'REMOVED',
      'REMOVED',
    ])
    expect((await service.lbs.consumers()).map(({ name }) => name)).toEqual([a, b].map(formatConsumer))
    expect((await service.pending()).map(([, consumer]) => consumer)).toEqual([formatConsumer(b)])
  })
})
