/** The permissions printed in docs/reference/redis-acl.md are enough for a worker, and none of them is granted for nothing. */
import { readFile } from 'node:fs/promises'
import { NonRetryableError, RecordProducer } from '@redis-stream-client/worker'
import type { Redis } from 'ioredis'
import { expect, test } from 'vitest'
import { seen, World } from './support/world.js'

const PAGE = new URL('../../../docs/reference/redis-acl.md', import.meta.url)
const PASSWORD = 'change-me'

/** The words after `ACL SETUSER <user>` on the page. */
async function rulesOf(user: string): Promise<string[]> {
  const [, rules] = new RegExp(`ACL SETUSER ${user} ([^\`]*)\`\`\``).exec(await readFile(PAGE, 'utf8')) ?? []
  if (rules === undefined) throw new Error(`no rules of ${user} in ${PAGE.pathname}`)
  return rules.replaceAll('\\\n', ' ').replaceAll("'", '').split(/\s+/).filter(Boolean)
}

/** Commands that were refused, with what they were refused for. */
async function refusals(admin: Redis): Promise<string[]> {
  const entries = (await admin.call('ACL', 'LOG')) as unknown[][]
  return entries.map((entry) => {
    const facts = new Map(
      Array.from({ length: entry.length / 2 }, (_, n) => [entry[2 * n], entry[2 * n + 1]]),
    )
    return `${String(facts.get('object'))} (${String(facts.get('reason'))})`
  })
}

test('what the page grants a worker is enough, and all of it is used', async () => {
  await using world = await World.start()
  const rules = await rulesOf('orders-worker')
  await world.redis.call('ACL', 'SETUSER', 'orders-worker', ...(await rulesOf('orders-client')), ...rules)
  await world.redis.config('RESETSTAT')
  const redis = world.server.client({
    username: 'orders-worker',
    password: PASSWORD,
    enableReadyCheck: false,
  })
  const producer = new RecordProducer(redis, world.service, { maxLen: 1000, idempotencyWindowMs: 60_000 })
  const told: string[] = []
  const handled: string[] = []
  const started = world.start(
    'a',
    {
      retry: { attempts: 2, initialDelayMs: 1, maxDelayMs: 1 },
      trim: 'committed',
      onDone: 'delete',
      lagIntervalMs: 50,
      rateLimit: { service: { records: 1000, perMs: 1000 } },
      onDeadLetter: (letter) => void told.push(letter.recordId),
      process: async (record, { done, transaction }) => {
        if (record.fields['n'] === 'bad' && !handled.includes('bad')) {
          handled.push('bad')
          throw new NonRetryableError('bad')
        }
        if (record.fields['n'] === 'once' && !handled.includes('once')) {
          handled.push('once')
          throw new Error('once')
        }
        if (record.fields['n'] === 'last') done()
        await transaction(record, (multi) => multi.xlen('sensor-1'))
        handled.push(`${record.fields['n']} done`)
      },
    },
    redis,
  )
  await world.redis.zadd('orders-idempotency-times:sensor-1', 1, 'of long ago') // to be forgotten with the next one
  for (const n of ['first', 'once', 'bad']) await producer.add('sensor-1', { n }, { idempotencyKey: n })
  await seen(started, 'deadLetter')
  await expect.poll(() => told.length, { timeout: 15_000 }).toBe(1)
  const { worker } = started
  await worker.pause('sensor-1', { keep: true })
  await worker.resume('sensor-1')
  expect(await worker.deadLetters.replayMany()).toMatchObject({ replayed: 1 })
  await expect.poll(() => handled, { timeout: 15_000 }).toContain('bad done')
  await worker.status()
  await producer.add('sensor-1', { n: 'last' })
  await seen(started, 'streamEnded', ({ how }) => how === 'finished')
  await producer.add('sensor-1', { n: 'first' }, { idempotencyKey: 'again' })
  await producer.announce('sensor-2')
  await seen(started, 'streamStarted', ({ dataStreamName }) => dataStreamName === 'sensor-2')
  await worker.close()
  const isOptional = (refused: string): boolean => /^(info|config|client|ping)\b/.test(refused)
  expect((await refusals(world.redis)).filter((refused) => !isOptional(refused))).toEqual([])
  const called = await world.redis.info('commandstats')
  const unused = rules.filter((rule) => rule.startsWith('+') && !called.includes(`cmdstat_${rule.slice(1)}:`))
  expect(unused).toEqual([])
})
