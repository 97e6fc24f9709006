import { eventually } from '@redis-stream-client/test/support/eventually'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { collectCommands } from '../src/handling/transaction.js'
import { Handled, seen, World } from './support/world.js'

const QUICK = { attempts: 3, initialDelayMs: 5, maxDelayMs: 20, jitter: 0 }

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

describe('transaction', () => {
  test('executes commands together with the commit, and answers their replies', async () => {
    const ids = await world.fill('s', 3)
    const replies: unknown[] = []
    world.start('a', {
      commitEvery: 1000,
      commitIntervalMs: 60_000,
      process: async (record, { transaction }) => {
        replies.push(
          await transaction(record, (multi) =>
            multi
              .incrby('sum', Number(record.fields['n']))
              .hset('seen', { [record.id]: 1 })
              .get('none'),
          ),
        )
        expect(await world.committed('s')).toBe(record.id)
      },
    })
    await world.committedIs('s', ids[2])
    await eventually('all replies', () => replies.length === 3)
    expect(replies).toEqual([
      [0, 1, null],
      [1, 1, null],
      [3, 1, null],
    ])
    expect(await world.redis.hkeys('seen')).toEqual(ids)
  })

  test('happens once, however many answers are lost', async () => {
    const { proxy, redis } = await world.proxied()
    const ids = await world.fill('s', 6)
    const results: unknown[] = []
    world.start(
      'a',
      {
        process: async (record, { transaction }) => {
          proxy.dropReplies((request) => request.includes('EVALSHA') || request.includes('evalsha'))
          results.push(await transaction(record, (multi) => multi.incr('count')))
        },
      },
      redis,
    )
    await world.committedIs('s', ids[5])
    expect(await world.redis.get('count')).toBe('6')
    await eventually('all are handled', () => results.length === 6)
    expect(results).toContain(null)
  })

  test('is what counts, if the handler fails afterwards', async () => {
    const ids = await world.fill('s', 3)
    const started = world.start('a', {
      retry: QUICK,
      process: async (record, { transaction }) => {
        await transaction(record, (multi) => multi.incr('count'))
        throw new Error('too late')
      },
    })
    await world.committedIs('s', ids[2])
    await eventually('all are counted', async () => (await world.redis.get('count')) === '3')
    expect(started.events.filter(({ event }) => event === 'retry' || event === 'deadLetter')).toEqual([])
  })

  test('is waited for, if the handler does not', async () => {
    const ids = await world.fill('s', 3)
    world.start('a', {
      retry: QUICK,
      process: (record, { transaction }) => {
        void transaction(record, (multi) => multi.incr('count'))
      },
    })
    await world.committedIs('s', ids[2])
    expect(await world.redis.get('count')).toBe('3')
  })

  test('commits part of a batch; the rest comes again when the handler fails', async () => {
    const ids = await world.fill('s', 4, { assign: false })
    const handled = new Handled()
    let hasFailed = false
    world.start('a', {
      retry: QUICK,
      processBatch: async (records, { transaction }) => {
        for (const { id } of records) handled.note('s', id)
        if (hasFailed) return
        hasFailed = true
        await transaction(records[1] ?? (records[0] as never), (multi) => multi.incr('count'))
        throw new Error('then this')
      },
    })
    await world.assign('s')
    await world.committedIs('s', ids[3])
    expect(await world.redis.get('count')).toBe('1')
    expect(handled.of('s')).toEqual([...ids, ...ids.slice(2)])
  })

  test('that Redis refuses is retried where nothing happened, and buried where something has', async () => {
    await world.redis.set('text', 'no list')
    const ids = await world.fill('s', 2)
    const attempts: number[] = []
    const started = world.start('a', {
      retry: QUICK,
      process: async (record, { attempt, transaction }) => {
        attempts.push(attempt)
        if (record.id === ids[0]) await transaction(record, (multi) => multi.lpush('text', 'x').incr('count'))
        else await transaction(record, (multi) => multi.incr('count').lpush('text', 'x'))
      },
    })
    await world.committedIs('s', ids[1])
    expect(attempts).toEqual([1, 2, 3, 1])
    expect(await world.redis.get('count')).toBe('1')
    const letters = await started.worker.deadLetters.list()
    expect(letters.map(({ recordId, attempts: n }) => [recordId, n])).toEqual([
      [ids[0], 3],
      [ids[1], 1],
    ])
    expect(letters[0]?.error).toContain('Redis refused command 1')
  })

  test('refuses what it cannot do', async () => {
    const ids = await world.fill('s', 2)
    const problems: string[] = []
    const started = world.start('a', {
      retry: { ...QUICK, attempts: 1 },
      process: async (record, { transaction }) => {
        const attempt = async (queue: Parameters<typeof transaction>[1], of = record): Promise<void> => {
          await transaction(of, queue).catch((error) => problems.push(error.message))
        }
        if (record.id !== ids[0]) return
        await attempt((multi) => (multi as unknown as { subscribe(c: string): void }).subscribe('c'))
        await attempt((multi) => (multi as unknown as { nonsense(c: string): void }).nonsense('c'))
        await attempt(async (multi) => void multi.incr('count'))
        await attempt((multi) => multi.incr('count'), Object.create(record))
        await transaction(record, (multi) => multi.incr('count'))
        await attempt((multi) => multi.incr('count'))
      },
    })
    await world.committedIs('s', ids[1])
    expect(problems).toEqual([
      expect.stringContaining('subscribe cannot be part of a transaction'),
      expect.stringContaining('nonsense is no command'),
      expect.stringContaining('and not be async'),
      expect.stringContaining('no record of the attempt'),
      expect.stringContaining('is committed already'),
    ])
    expect(await world.redis.get('count')).toBe('1')
    expect(await started.worker.deadLetters.count()).toBe(0)
  })

  test('of an owner that was replaced changes nothing', async () => {
    const ids = await world.fill('s', 1)
    let go = (): void => undefined
    const held = new Promise<void>((resolve) => {
      go = resolve
    })
    const outcomes: unknown[] = []
    const a = world.start('a', {
      process: async (record, { transaction }) => {
        await held
        await transaction(record, (multi) => multi.set('by', 'a')).then(
          () => outcomes.push('done'),
          (error) => outcomes.push(error.code),
        )
      },
    })
    await eventually('a works on it', async () => (await a.worker.status()).running === 1)
    const record = String(await world.redis.hget('orders-locks', 's')).split(' ')
    record[1] = String(Number(record[1]) + 1)
    record[5] = 'redis-consumer-b:0123'
    await world.redis.hset('orders-locks', 's', record.join(' '))
    go()
    await eventually('a is refused', () => outcomes.length === 1)
    expect(outcomes[0]).toMatch(/STREAM_NOT_OWNED|SESSION_LOST|ATTEMPT_OVER/)
    expect(await world.redis.get('by')).toBeNull()
    expect(await world.committed('s')).toBeNull()
    expect(ids).toHaveLength(1)
    await seen(a, 'streamEnded')
  })
})

describe('collecting commands', () => {
  test('takes commands as ioredis does, with their keys', () => {
    const commands = collectCommands((multi) =>
      multi.mset({ a: 1, b: 2 }).call('SET', 'c', Buffer.from('x')).zadd('z', 1, 'one'),
    )
    expect(commands.map(({ keys }) => keys)).toEqual([['a', 'b'], ['c'], ['z']])
    expect(commands[1]?.words).toEqual(['set', 'c', Buffer.from('x')])
  })

  test('refuses too many, too long ones, and callbacks', () => {
    const many = (count: number): void => {
      collectCommands((multi) => {
        for (let n = 0; n < count; n++) multi.incr('a')
      })
    }
    expect(() => many(1001)).toThrow('1001 commands are too many')
    expect(() => collectCommands((multi) => multi.del(...Array<string>(8000).fill('k')))).toThrow(
      '8001 words',
    )
    expect(() => collectCommands((multi) => multi.get('a', () => undefined))).toThrow('callbacks')
  })
})
