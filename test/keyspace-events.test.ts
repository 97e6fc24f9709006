/** Keyspace events are hints: with them failover is fast, without them it is still bounded. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { keepWarnings } from './src/support/keep-warnings.js'
import { RedisServer } from './src/support/redis-server.js'

const TTL_MS = 800
const FAST = { heartbeatTtlMs: TTL_MS, lbsIdleTimeMs: 4000, claimStaggerMs: 50 } as const
/** TTL and two probe intervals, and a lot for a busy machine. */
const DETECTION_MS = TTL_MS + 2 * (TTL_MS / 4) + 2000
const FLAGS = 'notify-keyspace-events'

vi.setConfig({ testTimeout: 60_000 })

async function flags(fleet: Fleet): Promise<string> {
  const [, value = ''] = (await fleet.redis.config('GET', FLAGS)) as string[]
  return value
}

async function flagsAreOn(fleet: Fleet): Promise<void> {
  await eventually(
    'the flags are on',
    () => flags(fleet),
    (value) => value.includes('K') && /[xA]/.test(value),
  )
}

let streams = 0

/** Kills an owner and waits until a client of the fleet has its stream. Answers how long that took. */
async function failOver(fleet: Fleet): Promise<number> {
  const owner = await fleet.spawn(`owner-${fleet.processes.length}`)
  let name = ''
  // Those that wait are served in turn: soon it is the owner's.
  for (let ownerId: string | null | undefined; ownerId !== owner.clientId; ) {
    name = `stream-${++streams}`
    await fleet.add(name)
    ownerId = await eventually('somebody owns it', async () => (await fleet.state.lock(name))?.owner)
  }
  await owner.given(name)
  await owner.kill()
  const killedAt = performance.now()
  await eventually(
    'a survivor owns it',
    () => fleet.holdings().some(({ stream }) => stream.dataStreamName === name && stream.owned),
    Boolean,
    { timeoutMs: 20_000 },
  )
  return performance.now() - killedAt
}

async function killSubscribers({ redis }: Fleet, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await sleep(5)
  }
}

describe.concurrent('with keyspace events', () => {
  test.each([0, 3])(
    'a client that expires is heard of long before a probe comes, on database %d',
    async (db) => {
      await using other = await RedisServer.start({ db })
      // No probe in time: the event of the expired heartbeat key alone can tell.
      await using fleet = new Fleet(other, { ...FAST, probeIntervalMs: 30_000 })
      await fleet.join('survivor')
      await fleet.allReading()
      await flagsAreOn(fleet)
      expect(await failOver(fleet)).toBeLessThan(DETECTION_MS)
      expect(await fleet.redis.client('INFO')).toContain(`db=${db} `)
      if (db !== 0) expect(await other.client({ db: 0 }).dbsize()).toBe(0)
    },
  )

  test.for(['', 'Ex', 'KEA', 'Kx', 'gx', 'El', 'KA', 'K$', 'KEg$lshzxetdmn'])(
    'the flags that were there are kept: %j',
    async (before, { skip }) => {
      await using server = await RedisServer.start()
      await using fleet = new Fleet(server, FAST)
      const known = await fleet.redis.config('SET', FLAGS, before).catch(() => undefined)
      skip(known === undefined && before.includes('n'), 'Redis 6.2 knows no flag n')
      expect(known).toBe('OK')
      const kept = await flags(fleet)
      await fleet.join('one')
      await fleet.join('two')
      await flagsAreOn(fleet)
      const after = await flags(fleet)
      for (const flag of kept.split('')) expect(after).toContain(flag)
      expect(after.split('').filter((flag) => !kept.includes(flag) && !'Kx'.includes(flag))).toEqual([])
      if (/K/.test(kept) && /[xA]/.test(kept)) expect(after).toBe(kept)
    },
  )

  test('flags that were lost come back after a reconnect, and after a restart of the server', async () => {
    await using server = await RedisServer.start()
    await using fleet = new Fleet(server, FAST)
    const member = await fleet.join('one')
    await fleet.allReading()
    await flagsAreOn(fleet)
    await fleet.redis.config('SET', FLAGS, '')
    await fleet.redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    await flagsAreOn(fleet)
    await server.restart({ data: 'saved' })
    await flagsAreOn(fleet)
    await fleet.add('stream')
    await member.given('stream')
  })
})

describe.concurrent('without keyspace events', () => {
  test('switched off by option, flags are left alone and failover is bounded', async () => {
    await using server = await RedisServer.start()
    await using fleet = new Fleet(server, { ...FAST, keyspaceEvents: 'off' })
    await fleet.redis.config('SET', FLAGS, 'El')
    const before = await flags(fleet)
    await fleet.join('survivor')
    expect(await failOver(fleet)).toBeLessThan(DETECTION_MS)
    expect(await flags(fleet)).toBe(before)
  })

  test('refused by an ACL, that is said once and failover is bounded', async () => {
    await using server = await RedisServer.start()
    await using fleet = new Fleet(server, FAST)
    await fleet.redis.call('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all', '-config')
    const { said, logger } = keepWarnings()
    const redis = server.client({ username: 'app', password: 'secret', lazyConnect: true })
    const survivor = await fleet.join('survivor', { redis, logger })
    await fleet.allReading()
    expect(await failOver(fleet)).toBeLessThan(DETECTION_MS)
    // A new session, new connections: not again.
    await fleet.redis.del(fleet.state.heartbeatKey(survivor.client.id))
    await eventually('the session was lost', () => survivor.errors.length > 0)
    await eventually('there is another', () => survivor.client.health().session === 'held')
    await fleet.redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    expect(await failOver(fleet)).toBeLessThan(DETECTION_MS)
    expect(said.filter((message) => message.includes('keyspace events'))).toHaveLength(1)
  })

  test('lost while everybody runs, failover is bounded', async () => {
    await using server = await RedisServer.start()
    await using fleet = new Fleet(server, FAST)
    await fleet.join('survivor')
    await fleet.allReading()
    await flagsAreOn(fleet)
    await fleet.redis.config('SET', FLAGS, '')
    expect(await failOver(fleet)).toBeLessThan(DETECTION_MS)
  })

  test('with the subscribers killed all the time, failover is bounded', async () => {
    await using server = await RedisServer.start()
    await using fleet = new Fleet(server, FAST)
    const survivor = await fleet.join('survivor')
    await fleet.allReading()
    const killing = new AbortController()
    const killer = killSubscribers(fleet, killing.signal)
    try {
      for (let round = 0; round < 3; round++) expect(await failOver(fleet)).toBeLessThan(DETECTION_MS)
    } finally {
      killing.abort()
      await killer
    }
    await eventually('it subscribes again', () => survivor.client.health().connections.hints[0] === 'ready')
    await fleet.allReading()
  })

  test('with ten thousand volatile keys of others, failover is bounded', async () => {
    await using server = await RedisServer.start()
    await using fleet = new Fleet(server, { ...FAST, keyspaceEvents: 'off' })
    await fleet.join('survivor')
    const pipeline = fleet.redis.pipeline()
    for (let n = 0; n < 10_000; n++) pipeline.set(`foreign:${n}`, 'x', 'PX', 60_000)
    await pipeline.exec()
    expect(await failOver(fleet)).toBeLessThan(DETECTION_MS)
  })
})
