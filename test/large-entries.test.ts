/** Entries of every size: nothing that is valid may cost a client its session, and nothing that is not its neighbours. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import type { Member } from './src/support/member.js'
import { RedisServer } from './src/support/redis-server.js'
import { TcpProxy } from './src/support/tcp-proxy.js'

const TTL_MS = 2000
const OPTIONS = {
  heartbeatTtlMs: TTL_MS,
  lbsIdleTimeMs: 4000,
  claimStaggerMs: 50,
  claimMode: 'auto',
} as const
const OWNED_TIMEOUT_MS = 60_000

vi.setConfig({ testTimeout: 120_000 })

let server: RedisServer

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

/** An object of so many bytes, most of them keys: what takes JSON.parse the longest. */
function keysOf(bytes: number): string {
  const parts: string[] = []
  let length = 0
  for (let i = 0; length < bytes - 20; i++) {
    const part = `"k${i.toString(36)}":0,`
    parts.push(part)
    length += part.length
  }
  return `{${parts.join('')}"z":0}`
}

async function addRaw({ redis, state }: Fleet, name: string, info: string): Promise<void> {
  await redis.xadd(state.lbsKey, '*', 'lbs-input', `{"DataStreamName":"${name}","Info":${info}}`)
}

function lostSessions({ client }: Member): () => number {
  let lost = 0
  client.on('session', (state) => {
    if (state === 'lost') lost++
  })
  return () => lost
}

async function allOwned(member: Member, names: readonly string[]): Promise<void> {
  await eventually(
    `all ${names.length} are owned`,
    () => member.owned.length,
    (count) => count === names.length,
    { timeoutMs: OWNED_TIMEOUT_MS },
  )
  expect(member.owned.toSorted()).toEqual(names.toSorted())
}

test('Infos of a megabyte of keys, one after the other, cost no session', async () => {
  await using fleet = new Fleet(server, OPTIONS)
  const names = Array.from({ length: 24 }, (_, index) => `stream-${index}`)
  const info = keysOf(1_000_000)
  for (const name of names) await addRaw(fleet, name, info)
  const member = fleet.make('only')
  const lost = lostSessions(member)
  await member.init()
  await allOwned(member, names)
  expect(Object.keys(member.stream('stream-7')?.additionalInfo ?? {}).length).toBeGreaterThan(80_000)
  expect(lost()).toBe(0)
})

test('an entry of 30 MB keeps nobody waiting, and goes to the dead letters as it is', async () => {
  // Redis itself takes a while to move so much, on a machine that is busy with other tests the longer.
  await using fleet = new Fleet(server, { ...OPTIONS, heartbeatTtlMs: 2 * TTL_MS, lbsIdleTimeMs: 4 * TTL_MS })
  const huge = keysOf(30_000_000)
  const names = ['a', 'b', 'c', 'd'].map((each) => `good-${each}`)
  await addRaw(fleet, 'good-a', '{}')
  await addRaw(fleet, 'good-b', '{}')
  await addRaw(fleet, 'huge', huge)
  await addRaw(fleet, 'good-c', '{}')
  await addRaw(fleet, 'good-d', '{}')
  const member = fleet.make('only')
  const lost = lostSessions(member)
  await member.init()
  await allOwned(member, names)
  await eventually(
    'a dead letter',
    () => fleet.redis.xlen(`${fleet.service}-dead`),
    (count) => count === 1,
  )
  expect(lost()).toBe(0) // before the test itself reads 30 MB
  const [letter] = await fleet.state.deadLetters()
  expect(letter?.error).toMatch(/it has 30\d{6} bytes, more than/)
  expect(letter?.fields['lbs-input'] === `{"DataStreamName":"huge","Info":${huge}}`).toBe(true)
})

test('over a slow link, what an earlier session has left is taken over in parts that get through', async () => {
  const names = Array.from({ length: 20 }, (_, index) => `stream-${index}`)
  const info = `{"x":"${'x'.repeat(600_000)}"}`
  await using fleet = new Fleet(server, OPTIONS)
  const { redis, service, state } = fleet
  for (const name of names) await addRaw(fleet, name, info)
  await redis.xgroup('CREATE', state.lbsKey, state.group, '0')
  const former = 'redis-consumer-heir:former'
  await redis.xreadgroup('GROUP', state.group, former, 'COUNT', 99, 'STREAMS', `${service}-input`, '>')
  await using proxy = await TcpProxy.listen(server)
  proxy.throttle(4_000_000) // two megabytes within the deadline of a command; all of it are twelve
  const member = fleet.make('heir', { redis: server.client({ port: proxy.port, lazyConnect: true }) })
  const lost = lostSessions(member)
  await member.init()
  await allOwned(member, names)
  expect(lost()).toBe(0)
  await member.close() // while the proxy is there
})
