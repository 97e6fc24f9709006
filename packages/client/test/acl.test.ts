/** The permissions printed in docs/reference/redis-acl.md are enough, and none of them is granted for nothing. */
import { readFile } from 'node:fs/promises'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { Fleet } from '@redis-stream-client/test/support/fleet'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ClientOptions, LbsProducer, RedisStreamClient } from '../src/index.js'

const PAGE = new URL('../../../docs/reference/redis-acl.md', import.meta.url)
const SERVICE = 'orders'
const PASSWORD = 'change-me'
const SERVED = {
  heartbeatTtlMs: 2000,
  lbsIdleTimeMs: 4000,
  claimStaggerMs: 20,
  consumerRetentionMs: 0,
} as const

let server: RedisServer
let admin: Redis

beforeAll(async () => {
  server = await RedisServer.start()
  admin = server.client()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

/** The words after `ACL SETUSER <user>` on the page, below a text on it. */
async function rulesOf(user: string, below = ''): Promise<string[]> {
  const page = await readFile(PAGE, 'utf8')
  const [, rules] =
    new RegExp(`ACL SETUSER ${user} ([^\`]*)\`\`\``).exec(page.slice(page.indexOf(below))) ?? []
  if (rules === undefined) throw new Error(`no rules of ${user} in ${PAGE.pathname}`)
  return rules.replaceAll('\\\n', ' ').replaceAll("'", '').split(/\s+/).filter(Boolean)
}

/** What the clients do while the server counts: every script in every way that needs another command. */
async function work(username: string): Promise<void> {
  // Before them: four assignments of one stream and a broken one, read by two sessions that are dead by now.
  const message = JSON.stringify({ DataStreamName: 'S' })
  await admin.xgroup('CREATE', 'orders-input', 'orders-group', '0', 'MKSTREAM')
  for (const id of ['1-0', '2-0', '3-0', '4-0']) await admin.xadd('orders-input', id, 'lbs-input', message)
  await admin.xadd('orders-input', '5-0', 'lbs-input', 'nonsense')
  await admin.xreadgroup('GROUP', 'orders-group', 'redis-consumer-ghost:t', 'STREAMS', 'orders-input', '>')
  await admin.xclaim('orders-input', 'orders-group', 'redis-consumer-a:t', 0, '1-0', '2-0', '4-0', 'JUSTID')
  await admin.hset('orders-members', 'redis-consumer-a', '- 1 2000 0 1;t')
  await admin.config('RESETSTAT')
  await admin.call('ACL', 'LOG', 'RESET')

  const redis = server.client({ lazyConnect: true, username, password: PASSWORD })
  const url = server.url.replace('//', `//${username}:${PASSWORD}@`)
  await using fleet = new Fleet(server, { service: SERVICE, ...SERVED })
  const a = await fleet.join('a', { redis, claimMode: 'auto' })
  const first = await a.given('S') // its own earlier session's; 2-0 and 4-0 wait, 3-0 has to go between them
  await eventually(
    'three assignments wait',
    async () => (await admin.llen('orders-backlog:S')) + (await admin.zcard('orders-late:S')),
    (length) => length === 3,
  )
  await eventually('the broken entry is in the dead letters', () => admin.xlen('orders-dead'))
  const { deadLetters } = a.client
  expect(await deadLetters.count()).toBe(1)
  const [broken] = await deadLetters.list()
  await deadLetters.replay(broken?.id ?? '')
  const [again] = await eventually(
    'it is there again',
    () => deadLetters.list(),
    (found) => found.length === 1,
  )
  await deadLetters.drop(again?.id ?? '')
  await first.commit('half way')

  const fallen = await fleet.spawn('fallen', { url, client: { claimMode: 'auto' } })
  await a.release(first)
  const { fencingToken } = await fallen.given('S')
  await fallen.kill()
  const second = await a.given('S', fencingToken)
  expect(second).toMatchObject({ idInLbs: '1-0', checkpoint: 'half way' })

  const b = await fleet.join('b', { redis })
  await a.release(second)
  const third = await b.given('S', second.fencingToken) // by StreamExpired and claim
  await b.done(third)
  for (let stream = third, turns = 0; turns < 3; turns++) {
    const above = stream.fencingToken
    stream = await Promise.any([a, b].map((member) => member.given('S', above)))
    await (a.streams.includes(stream) ? a : b).done(stream)
  }
  await fleet.allDone()
  await eventually('only living consumers are left', async () => {
    const consumers = (await admin.xinfo('CONSUMERS', 'orders-input', 'orders-group')) as unknown[]
    return consumers.length === 2
  })
}

it('what the page grants a client is enough, and all of it is used', async () => {
  const rules = await rulesOf('orders-client')
  await admin.call('ACL', 'SETUSER', 'orders-client', ...rules)
  await work('orders-client')
  // What the page offers beyond this: a client tries it and goes on without.
  const isOptional = (refused: string): boolean => /^(info|config|client|ping)\b/.test(refused)
  expect((await refusals()).filter((refused) => !isOptional(refused))).toEqual([])
  expect(await notCalled(rules)).toEqual([])
})

it('with what the page offers beyond that nothing is refused', async () => {
  const rules = await rulesOf('orders-client')
  const more = await rulesOf('orders-client', 'With these as well')
  await admin.flushall()
  await admin.call('ACL', 'SETUSER', 'orders-client', ...rules, ...more)
  await work('orders-client')
  // Redis 7.2 and later know CLIENT SETINFO, which older ones would refuse to grant. Redis 6.2 names no subcommands.
  expect((await refusals()).filter((refused) => !/^client(\|setinfo)?$/.test(refused))).toEqual([])
  expect(await notCalled(more)).toEqual([])
  expect((await admin.config('GET', 'notify-keyspace-events')) as string[]).toEqual([
    'notify-keyspace-events',
    expect.stringMatching(/^(?=.*K)(?=.*x)/),
  ])
})

const PATIENCE = { timeoutMs: 20_000 }
const GRANTED = (await rulesOf('orders-client')).filter((rule) => rule.startsWith('+'))

describe.concurrent('a user that lacks one of the commands', () => {
  it.each(GRANTED)('%s is told which, and nothing is given up for it', async (missing) => {
    const service = `lacking-${missing.replace(/\W/g, '')}`
    const rules = (await rulesOf('orders-client')).filter((rule) => rule !== missing)
    const told: string[] = []
    // A server knows the scripts that others have used: on one of its own EVAL is needed.
    await using fresh = missing === '+eval' ? await RedisServer.start() : null
    const on = fresh ?? server
    await using trial = await tryEverything(on, service, rules, told)
    if (missing === '+del') {
      // Only the end of a session needs it.
      await eventually('the session is held', () => trial.client.health().session === 'held')
      await trial.close()
    }
    // Redis 6.2 names no subcommands.
    const [command, subcommand] = missing.slice(1).split('|')
    const named = new RegExp(`'${command}(\\|${subcommand})?' command`)
    const isNamed = (): boolean => told.some((line) => named.test(line))
    await eventually(
      `${missing} is named`,
      () => [isNamed(), told],
      ([found]) => found === true,
      PATIENCE,
    )
    const letters = await on.client().xrange(`${service}-dead`, '-', '+')
    expect(letters.flatMap(([, fields]) => fields)).not.toContain('unserviceable')
  })
})

it('what the page grants a producer is enough', async () => {
  await admin.call('ACL', 'SETUSER', 'orders-producer', ...(await rulesOf('orders-producer')))
  await admin.call('ACL', 'LOG', 'RESET')
  const redis = server.client({ username: 'orders-producer', password: PASSWORD, enableReadyCheck: false })
  const id = await new LbsProducer(redis, SERVICE).add('S', { from: 'the producer' })
  expect(await admin.xrange('orders-input', id, id)).toHaveLength(1)
  expect((await refusals()).filter((refused) => !refused.startsWith('client'))).toEqual([])
  await expect(redis.xlen('orders-input')).rejects.toThrow('NOPERM')
})

it('what the page grants people on call is enough for what the guide tells them to look at', async () => {
  await admin.call('ACL', 'SETUSER', 'orders-oncall', ...(await rulesOf('orders-oncall')))
  const guide = await readFile(new URL('../guides/troubleshooting.md', PAGE), 'utf8')
  const commands = [...guide.matchAll(/^r (\S+) (.*?)(?: *[#|].*)?$/gm)]
    .map(([, command, args]) => [command, ...(args as string).replaceAll("'", '').split(' ')] as string[])
    .filter(([command = '', key = '']) => !/^(--scan|X?ADD|X?DEL|HDEL|CLIENT)$/.test(command) && key !== '')
  expect(commands.length).toBeGreaterThan(8)
  const redis = server.client({ username: 'orders-oncall', password: PASSWORD, enableReadyCheck: false })
  for (const [command, ...args] of commands) await redis.call(command as string, ...args)
  await redis.scan('0', 'MATCH', 'orders-heartbeat:*')
  await expect(redis.set('orders-fence', 1)).rejects.toThrow('NOPERM')
})

/**
 * Does all that needs a command, in a service where entries were read by clients that are dead by now, and writes down
 * what the application and its log are told. What is refused is tried again.
 */
async function tryEverything(
  on: RedisServer,
  service: string,
  rules: readonly string[],
  told: string[],
): Promise<AsyncDisposable & { client: RedisStreamClient; close: () => Promise<void> }> {
  const owner = on.client()
  await owner.call('ACL', 'SETUSER', service, ...rules.map((rule) => rule.replace('orders-', `${service}-`)))
  const [lbs, group] = [`${service}-input`, `${service}-group`]
  const message = JSON.stringify({ DataStreamName: 'S' })
  for (const id of ['1-0', '2-0', '3-0', '4-0']) await owner.xadd(lbs, id, 'lbs-input', message)
  await owner.xadd(lbs, '5-0', 'lbs-input', 'nonsense')
  await owner.xgroup('CREATE', lbs, group, '0')
  await owner.xreadgroup('GROUP', group, 'redis-consumer-ghost:t', 'STREAMS', lbs, '>')
  await owner.xclaim(lbs, group, 'redis-consumer-a:t', 0, '1-0', '2-0', '4-0', 'JUSTID')
  await owner.hset(`${service}-members`, 'redis-consumer-a', '- 1 2000 0 1;t')

  const log = (facts: { error?: string }): void => void told.push(String(facts.error))
  const logger = { debug: () => undefined, info: () => undefined, warn: log, error: log, child: () => logger }
  const tell = (error: Error): void => void told.push(error.message)
  const redis = on.client({ lazyConnect: true, username: service, password: PASSWORD })
  const client = new RedisStreamClient(redis, service, {
    ...SERVED,
    consumerId: 'a',
    claimMode: 'auto',
    logger: logger as unknown as NonNullable<ClientOptions['logger']>,
  })
  client.on('error', tell)
  const serve = async (): Promise<void> => {
    let isFirst = true
    for await (const notification of await client.init()) {
      if (notification.type !== 'StreamAdded') continue
      const { stream } = notification
      await stream.commit('half way').catch(tell)
      await client.deadLetters.count().catch(tell)
      await (isFirst ? stream.release() : stream.done()).catch(tell)
      isFirst = false
    }
  }
  const served = serve().catch(tell)
  const close = async (): Promise<void> => {
    await client.close()
    await served
  }
  return { client, close, [Symbol.asyncDispose]: close }
}

/** What the server has refused since the log was reset: commands, keys or channels. */
async function refusals(): Promise<string[]> {
  const log = (await admin.call('ACL', 'LOG')) as unknown[][]
  return log.map((entry) => String(entry[entry.indexOf('object') + 1]))
}

/** Granted commands that nobody has called since the statistics were reset. */
async function notCalled(rules: readonly string[]): Promise<string[]> {
  const stats = await admin.info('commandstats')
  const isCalled = (command: string): boolean =>
    [command, command.replace(/\|.*/, '')].some((name) => stats.includes(`cmdstat_${name}:`))
  return rules
    .filter((rule) => rule.startsWith('+'))
    .map((rule) => rule.slice(1))
    .filter((command) => !isCalled(command))
}
