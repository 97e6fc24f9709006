/** Redis refuses, hangs, and comes back: nothing is passed over, everything goes on. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { NonRetryableError } from '@redis-stream-client/worker'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Handled, seen, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

/** Puts something in the way of the checkpoints; answers how to take it away. */
async function breakCheckpoints(): Promise<() => Promise<unknown>> {
  await world.redis.rename('orders-checkpoints', 'aside').catch(() => undefined)
  await world.redis.set('orders-checkpoints', 'in the way')
  return async () => {
    await world.redis.del('orders-checkpoints')
    await world.redis.rename('aside', 'orders-checkpoints').catch(() => undefined)
  }
}

describe('Redis in trouble', () => {
  test('a commit that is refused is repeated, and nothing is handled beyond it', async () => {
    const handled = new Handled()
    const first = await world.fill('s', 1)
    const started = world.start('a', { commitEvery: 2, process: ({ id }) => handled.note('s', id) })
    await world.committedIs('s', first[0])
    const repair = await breakCheckpoints()
    const ids = await world.fill('s', 10, { assign: false })
    await seen(started, 'error')
    expect(handled.of('s').length).toBeLessThanOrEqual(3)
    await repair()
    expect(await handled.has('s', 11)).toEqual([...first, ...ids])
    await world.committedIs('s', ids[9])
  })

  test('no attempt is made while the failure of the last one cannot be committed', async () => {
    const [first] = await world.fill('s', 1)
    const attempts: number[] = []
    const started = world.start('a', {
      retry: { attempts: 100, initialDelayMs: 5, maxDelayMs: 5 },
      process: ({ id }, { attempt }) => {
        if (id === first) return
        attempts.push(attempt)
        throw new Error('no')
      },
    })
    await world.committedIs('s', first)
    const repair = await breakCheckpoints()
    await world.fill('s', 1, { assign: false })
    await eventually(
      'Redis has refused some commits',
      () => started.events.filter(({ event }) => event === 'error').length >= 5,
    )
    expect(attempts).toEqual([1])
    await repair()
    await eventually('attempts go on', () => attempts.length >= 3)
    expect(attempts.slice(0, 3)).toEqual([1, 2, 3])
  })

  test('a stream is finished once Redis lets it', async () => {
    const first = await world.fill('s', 1)
    let isLast = false
    const started = world.start('a', { isLast: () => isLast, process: () => undefined })
    await world.committedIs('s', first[0])
    const repair = await breakCheckpoints()
    isLast = true
    await world.fill('s', 1, { assign: false })
    await eventually('it ends', async () => (await started.worker.status()).streams[0]?.state === 'ending')
    await repair()
    expect(await seen(started, 'streamEnded')).toMatchObject({ how: 'finished' })
  })

  test('a transaction that cannot be stored fails, and its record is retried', async () => {
    const first = await world.fill('s', 1)
    const started = world.start('a', {
      retry: { attempts: 100, initialDelayMs: 5, maxDelayMs: 10 },
      process: async (record, { transaction }) => {
        await transaction(record, (multi) => multi.set('last', record.id))
      },
    })
    await world.committedIs('s', first[0])
    const record = (await world.redis.hget('orders-locks', 's')) as string
    await world.redis.hset('orders-locks', 's', 'damaged')
    const [id] = await world.fill('s', 1, { assign: false })
    await seen(started, 'retry')
    expect(await world.redis.get('last')).toBe(first[0])
    expect(started.events.length).toBeLessThan(20)
    await world.redis.hset('orders-locks', 's', record)
    await world.committedIs('s', id)
    expect(await world.redis.get('last')).toBe(id)
  })

  test('status and metrics do without Redis, and work goes on when it is back', async () => {
    const { proxy, redis } = await world.proxied()
    const handled = new Handled()
    const started = world.start(
      'a',
      { lagIntervalMs: 20, metrics: { lag: () => undefined }, process: ({ id }) => handled.note('s', id) },
      redis,
    )
    await world.fill('s', 1)
    await handled.has('s', 1)
    await proxy.refuse()
    proxy.cut()
    const { streams } = await started.worker.status()
    expect(streams.every(({ lag }) => lag === null)).toBe(true)
    await proxy.accept()
    const [id] = await world.fill('s', 1, { assign: false })
    await eventually('the next record', () => handled.of('s').at(-1) === id, Boolean, { timeoutMs: 15_000 })
  })

  test('while records cannot be read, health and the log say why', async () => {
    await world.redis.call('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all')
    const login = world.server.client({ username: 'app', password: 'secret' })
    const lines: { level: number; error?: string; msg: string }[] = []
    const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
    const handled = new Handled()
    const { worker } = world.start('a', { logger, process: ({ id }) => handled.note('s', id) }, login)
    const first = await world.fill('s', 1)
    await world.committedIs('s', first[0])
    await world.redis.call('ACL', 'SETUSER', 'app', 'resetpass', '>other')
    const clients = String(await world.redis.client('LIST')).split('\n')
    const readers = clients.filter((line) => /name=\S*:reader-\d /.test(line))
    for (const line of readers) await world.redis.client('KILL', 'ID', /id=(\d+)/.exec(line)?.[1] as string)
    const said = (text: string) => lines.filter(({ msg }) => msg.includes(text))
    await eventually('the log says why', () =>
      said('data streams cannot be read').some(
        ({ error, level }) => level === 40 && error?.includes('WRONGPASS'),
      ),
    )
    const { connectionProblems, session } = worker.health()
    expect(session).toBe('held')
    expect(connectionProblems).toEqual(
      ['reader-0', 'reader-1'].map((connection) =>
        expect.objectContaining({ connection, message: expect.stringContaining('WRONGPASS') }),
      ),
    )
    await world.redis.call('ACL', 'SETUSER', 'app', 'resetpass', '>secret')
    const ids = await world.fill('s', 1, { first: 1, assign: false })
    expect(await handled.has('s', 2)).toEqual([...first, ...ids])
    await eventually('it is over', () => said('data streams are read again').length === 1)
    await eventually(
      'health says nothing of it',
      () => worker.health().connectionProblems.length === 0,
      Boolean,
      {
        timeoutMs: 15_000, // a reader without streams is asked for a sign of life only after some seconds
      },
    )
  })

  test('nothing begins while the rate limit of the service cannot be asked', async () => {
    await world.redis.set('orders-rate-limit', 'in the way')
    await world.fill('s', 2)
    const handled = new Handled()
    world.start('a', {
      rateLimit: { service: { records: 100, perMs: 1000 } },
      process: ({ id }) => handled.note('s', id),
    })
    await eventually('it is owned', async () => (await world.redis.hlen('orders-locks')) === 1)
    expect(handled.of('s')).toEqual([])
    await world.redis.del('orders-rate-limit')
    await handled.has('s', 2)
  })

  test('a handler that is asked to stop has an aborted signal, also if it looks late', async () => {
    await world.fill('s', 1)
    const reasons: unknown[] = []
    let look = (): void => undefined
    const started = world.start('a', {
      drainMs: 30,
      abandonAfterMs: 300,
      process: async (_, context) => {
        await new Promise<void>((resolve) => {
          look = resolve
        })
        reasons.push(context.signal.reason)
        throw new NonRetryableError('stopped')
      },
    })
    await eventually('it runs', async () => (await started.worker.status()).running === 1)
    const closing = started.worker.close()
    await new Promise((resolve) => setTimeout(resolve, 100))
    look()
    await closing
    expect(reasons).toMatchObject([{ code: 'CLOSED' }])
    expect(await started.worker.deadLetters.count()).toBe(0)
    await expect(started.worker.run()).rejects.toMatchObject({ code: 'CLOSED' })
  })
})
