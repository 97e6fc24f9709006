/** Records that kill the process of their owner. */
import { fileURLToPath } from 'node:url'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { Program } from '@redis-stream-client/test/support/processes'
import { DeadLetters } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { readLog } from './support/work-log.js'
import { Handled, World } from './support/world.js'

const PROGRAM = fileURLToPath(new URL('programs/worker.mjs', import.meta.url))

// Processes take their time to start on a busy machine.
vi.setConfig({ testTimeout: 90_000 })

let world: World

beforeEach(async () => {
  world = await World.start()
})
afterEach(() => world[Symbol.asyncDispose]())

/** Starts one process after the other, each when the one before has died, until one has committed the end. */
async function workThrough(behaviour: object, end: string | undefined): Promise<number> {
  for (let deaths = 0; ; deaths++) {
    const client = { consumerId: `w${deaths}`, heartbeatTtlMs: 1000, lbsIdleTimeMs: 2000, maxCrashes: 1 }
    const where = { url: world.server.url, service: world.service }
    await using program = Program.start(PROGRAM, {
      args: [JSON.stringify({ ...where, client, ...behaviour })],
    })
    let hasDied = false
    void program.exited.then(() => {
      hasDied = true
    })
    await eventually(
      'the end is committed, or the process is dead',
      async () => hasDied || (await world.committed('s')) === end,
      Boolean,
      { timeoutMs: 30_000 },
    )
    if (!hasDied) return deaths
  }
}

describe('a record that kills its owners', () => {
  test.each([
    [3, 3],
    [1, 2],
  ])(
    'goes to the dead letters with %d crashes allowed, and its assignment does not',
    async (allowed, expected) => {
      const ids = await world.fill('s', 8)
      const options = { maxRecordCrashes: allowed, commitIntervalMs: 300 }
      expect(await workThrough({ killAt: ['5'], options }, ids[7])).toBe(expected)
      const letters = await new DeadLetters(world.redis, world.service).list()
      expect(letters).toMatchObject([{ dataStreamName: 's', recordId: ids[5] }])
      expect(letters[0]?.error).toContain('when its owner crashed or hung')
      const log = await readLog(world.redis, 's')
      expect([...new Set(log.map(({ id }) => id))]).toEqual(ids)
      expect(log.filter(({ id }) => id === ids[5])).toHaveLength(expected)
      expect(await world.redis.xlen('orders-dead')).toBe(0)
    },
  )

  test('is not one that another owner has handled, nor one before or behind it', async () => {
    const ids = await world.fill('s', 8)
    const options = { maxRecordCrashes: 2, commitIntervalMs: 300 }
    expect(await workThrough({ killAt: ['2', '5'], kills: 1, options }, ids[7])).toBe(2)
    expect(await new DeadLetters(world.redis, world.service).count()).toBe(0)
  })
})

test('nothing is written for records that nobody suspects', async () => {
  const handled = new Handled()
  let commits = 0
  world.start('a', {
    maxRecordCrashes: 1,
    commitEvery: 50,
    commitIntervalMs: 60_000,
    process: ({ id }) => handled.note('s', id),
    metrics: { committed: () => commits++ },
  })
  const ids = await world.fill('s', 100)
  await world.committedIs('s', ids[99])
  expect(commits).toBeLessThanOrEqual(3)
})
