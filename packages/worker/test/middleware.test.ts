import { AsyncLocalStorage } from 'node:async_hooks'
import type { WorkerMiddleware } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { seen, World } from './support/world.js'

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(async () => {
  await world[Symbol.asyncDispose]()
})

/** A worker with this middleware that is run once the stream `s` has its records. */
async function work(
  middleware: readonly WorkerMiddleware[],
  options: Parameters<World['worker']>[1],
  count = 1,
) {
  const ids = await world.fill('s', count)
  const started = world.start('a', { retry: { attempts: 2, initialDelayMs: 1, maxDelayMs: 1 }, ...options })
  for (const each of middleware) started.worker.use(each)
  return { ids, started }
}

describe('middleware', () => {
  test('is called around the handler, the first one outermost', async () => {
    const calls: string[] = []
    const named =
      (name: string): WorkerMiddleware =>
      async (record, { attempt }, next) => {
        calls.push(`${name} ${record.fields['n']} ${attempt}`)
        await next()
        calls.push(`${name} over`)
      }
    const { ids } = await work([named('outer'), named('inner')], {
      process: () => void calls.push('handler'),
    })
    await world.committedIs('s', ids[0])
    expect(calls).toEqual(['outer 0 1', 'inner 0 1', 'handler', 'inner over', 'outer over'])
  })

  test('can hand something to the handler by its asynchronous context', async () => {
    const units = new AsyncLocalStorage<string>()
    const found: unknown[] = []
    const { ids } = await work([(record, _, next) => units.run(`unit of ${record.id}`, next)], {
      process: async () => {
        await Promise.resolve()
        found.push(units.getStore())
      },
    })
    await world.committedIs('s', ids[0])
    expect(found).toEqual([`unit of ${ids[0]}`])
  })

  test('is called once for a batch, with its first record and all of them in the context', async () => {
    const batches: unknown[] = []
    const { ids } = await work(
      [
        (record, { records }, next) => {
          batches.push([record === records[0], records.length])
          return next()
        },
      ],
      { processBatch: () => undefined },
      3,
    )
    await world.committedIs('s', ids[2])
    expect(batches.reduce<number>((sum, batch) => sum + (batch as [boolean, number])[1], 0)).toBe(3)
    expect(batches.every((batch) => (batch as [boolean, number])[0])).toBe(true)
  })

  test('fails the record with what it throws, and sees what the handler throws', async () => {
    const caught: unknown[] = []
    const { ids, started } = await work(
      [
        async (_record, _context, next) => {
          try {
            await next()
          } catch (error) {
            caught.push((error as Error).message)
            throw new Error('from the middleware', { cause: error })
          }
        },
      ],
      {
        process: () => {
          throw new Error('from the handler')
        },
      },
    )
    expect(await seen(started, 'deadLetter')).toMatchObject({ recordId: ids[0], attempts: 2 })
    expect(caught).toEqual(['from the handler', 'from the handler'])
    const [letter] = await started.worker.deadLetters.list()
    expect(letter?.error).toBe('Error: from the middleware')
  })

  test('that calls nothing is all there is to the record', async () => {
    const handled: string[] = []
    const { ids } = await work(
      [(record, _, next) => (record.fields['n'] === '1' ? undefined : next())],
      {
        process: ({ id }) => void handled.push(id),
      },
      3,
    )
    await world.committedIs('s', ids[2])
    expect(handled).toEqual([ids[0], ids[2]])
  })

  test('that does not wait for the handler does not hide its failure', async () => {
    const { ids, started } = await work([(_record, _context, next) => void next()], {
      process: async () => {
        await new Promise((resolve) => setImmediate(resolve))
        throw new Error('late')
      },
    })
    expect(await seen(started, 'deadLetter')).toMatchObject({ recordId: ids[0] })
  })

  test('that calls next twice fails the record, and the handler is called once', async () => {
    let calls = 0
    const { started } = await work(
      [
        async (_record, _context, next) => {
          await next()
          await next()
        },
      ],
      { retry: { attempts: 1 }, process: () => void calls++ },
    )
    await seen(started, 'deadLetter')
    const [letter] = await started.worker.deadLetters.list()
    expect([calls, letter?.error]).toEqual([1, 'Error: a middleware has called next twice for the same call'])
  })

  test('must be a function', () => {
    const worker = world.worker('a', { process: () => undefined })
    expect(() => worker.use('log' as never)).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }))
  })
})
