import { fileURLToPath } from 'node:url'
import type { DeadRecord } from '@redis-stream-client/handling'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { Program } from '@redis-stream-client/test/support/processes'
import { NonRetryableError, type WorkerOptions } from '@redis-stream-client/worker'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { World } from './support/world.js'

const PROGRAM = fileURLToPath(new URL('programs/worker.mjs', import.meta.url))

let world: World
let told: { recordId: string; attempt: number; isStored: boolean }[]

beforeEach(async () => {
  world = await World.start()
  told = []
})
afterEach(() => world[Symbol.asyncDispose]())

/** Puts every record into the dead letters. */
const failing: WorkerOptions = {
  process: () => {
    throw new NonRetryableError('no')
  },
}

/** Notes what it is told; `act` is its work. */
function noting(act: (letter: DeadRecord, attempt: number) => unknown = () => undefined): WorkerOptions {
  return {
    onDeadLetter: async (letter, { attempt }) => {
      const isStored = (await world.redis.xrange('orders-dead-records', letter.id, letter.id)).length === 1
      told.push({ recordId: letter.recordId, attempt, isStored })
      await act(letter, attempt)
    },
  }
}

async function pending(): Promise<number> {
  const [count] = (await world.redis.xpending('orders-dead-records', 'orders-dead-records-group')) as [number]
  return Number(count)
}

describe('onDeadLetter', () => {
  test('is called once with each letter when it is stored, by any worker that has it', async () => {
    world.start('a', { ...failing, ...noting() })
    const started = world.start('b', failing)
    const ids = [...(await world.fill('s', 3)), ...(await world.fill('t', 3))]
    await eventually('all are told', () => told.length === 6, Boolean, { timeoutMs: 20_000 })
    await eventually('none is pending', async () => (await pending()) === 0)
    expect(new Set(told.map(({ recordId }) => recordId))).toEqual(new Set(ids))
    expect(told.every(({ attempt, isStored }) => attempt === 1 && isStored)).toBe(true)
    expect(await started.worker.deadLetters.count()).toBe(6)
  })

  test('is named in the log when Redis refuses it, once', async () => {
    const lines: string[] = []
    const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
    const { worker } = world.start('a', { ...failing, ...noting(), logger })
    await eventually('it runs', () => worker.health().session === 'held')
    await world.redis.set('orders-dead-records', 'something else')
    const said = () => lines.filter((line) => line.includes('onDeadLetter cannot be called'))
    await eventually('it has tried several times', () => said().length > 2, Boolean, { timeoutMs: 15_000 })
    const [first, ...others] = said().map((line) => JSON.parse(line) as { level: number; error: string })
    expect(first).toMatchObject({ level: 40, error: expect.stringContaining('WRONGTYPE') })
    expect(others.every(({ level }) => level === 20)).toBe(true)
  })

  test('is called again when it throws, and other letters do not wait for that', async () => {
    const started = world.start('a', {
      ...failing,
      ...noting((_, attempt) => {
        if (told[0]?.recordId === told.at(-1)?.recordId && attempt < 3) throw new Error('cannot be told')
      }),
      deadLetterRetry: { initialDelayMs: 50, maxDelayMs: 100 },
    })
    const [first, second] = await world.fill('s', 2)
    await eventually(
      'it was told three times',
      () => told.filter(({ recordId }) => recordId === first).length === 3,
    )
    await eventually('none is pending', async () => (await pending()) === 0)
    expect(told.filter(({ recordId }) => recordId === first).map(({ attempt }) => attempt)).toEqual([1, 2, 3])
    expect(told.filter(({ recordId }) => recordId === second)).toHaveLength(1)
    expect(started.events.filter(({ event }) => event === 'error')).toHaveLength(2)
    expect(await started.worker.deadLetters.count()).toBe(2)
  })

  test('is given up after as many calls as are allowed, and the letter stays', async () => {
    const started = world.start('a', {
      ...failing,
      ...noting(() => {
        throw new Error('cannot be told')
      }),
      deadLetterRetry: { attempts: 2, initialDelayMs: 20 },
    })
    await world.fill('s', 1)
    await eventually('it was told twice', () => told.length === 2)
    await eventually('it is not pending', async () => (await pending()) === 0)
    expect(await started.worker.deadLetters.count()).toBe(1)
  })

  test('is called by another worker when the process dies in it', async () => {
    const client = { consumerId: 'a', heartbeatTtlMs: 600, lbsIdleTimeMs: 1200 }
    const where = { url: world.server.url, service: world.service }
    const behaviour = { client, failEvery: 1, hangsAtLetters: true, options: { retry: { attempts: 1 } } }
    const program = Program.start(PROGRAM, { args: [JSON.stringify({ ...where, ...behaviour })] })
    try {
      const [id] = await world.fill('s', 1)
      await eventually(
        'it was told',
        async () => (await world.redis.lrange('told', 0, -1)).includes(id as string),
        Boolean,
        {
          timeoutMs: 20_000,
        },
      )
      await program.kill()
      world.start('b', { ...failing, ...noting(), deadLetterRetry: { initialDelayMs: 200 } })
      await eventually('it is told again', () => told.length === 1, Boolean, { timeoutMs: 15_000 })
      expect(told).toMatchObject([{ recordId: id, attempt: 2 }])
    } finally {
      await program.kill()
    }
  })

  test('is not called by another worker as long as the call lasts', async () => {
    const options: WorkerOptions = {
      ...failing,
      ...noting(() => new Promise((resolve) => setTimeout(resolve, 3000))),
      deadLetterRetry: { initialDelayMs: 1000 },
    }
    world.start('a', options)
    world.start('b', options)
    await world.fill('s', 1)
    await eventually('it was told', () => told.length === 1)
    await eventually('it is not pending', async () => (await pending()) === 0, Boolean, { timeoutMs: 15_000 })
    expect(told).toHaveLength(1)
  })

  test('passes over a letter that was dropped meanwhile, and begins anew when all were deleted', async () => {
    const started = world.start('a', {
      ...failing,
      ...noting(() => {
        throw new Error('cannot be told')
      }),
      deadLetterRetry: { initialDelayMs: 50 },
    })
    await world.fill('s', 1)
    await eventually('it was told', () => told.length > 0)
    const [letter] = await started.worker.deadLetters.list()
    await started.worker.deadLetters.drop(String(letter?.id))
    await eventually('it is not pending', async () => (await pending()) === 0)
    await world.redis.del('orders-dead-records')
    const [id] = await world.fill('s', 1, { assign: false })
    await eventually('the new one is told', () => told.some(({ recordId }) => recordId === id), Boolean, {
      timeoutMs: 20_000,
    })
  })
})
