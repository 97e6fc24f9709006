/** What was written to an outbox is sent once, whatever is killed and however many relays there are. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import type { Program } from '@redis-stream-client/test/support/processes'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { purchase, SCHEMA } from '../exactly-once/outbox.js'
import { PATIENT, Payments } from './support/payments.js'
import { PostgresServer, whyNoPostgres } from './support/postgres-server.js'

const reason = whyNoPostgres()
const title = reason === null ? 'an outbox' : `an outbox (SKIPPED: ${reason})`
const STREAMS = ['payments-of-ada', 'payments-of-bob']

describe.skipIf(reason !== null)(title, () => {
  let postgres: PostgresServer
  let payments: Payments

  beforeAll(async () => {
    postgres = await PostgresServer.start()
  }, 60_000)
  afterAll(() => postgres[Symbol.asyncDispose]())
  beforeEach(async () => {
    await postgres.sql.unsafe(SCHEMA)
    payments = await Payments.start()
  })
  afterEach(() => payments[Symbol.asyncDispose]())

  function relay(name: string): Program {
    return payments.run('outbox-relay', name, { DATABASE_URL: postgres.url })
  }

  async function waitingRows(): Promise<number> {
    const [row] = await postgres.sql<{ count: string }[]>`SELECT count(*) FROM outbox`
    return Number(row?.count)
  }

  /** Amounts of the records of each stream, in order. */
  async function sent(): Promise<number[][]> {
    const entries = await Promise.all(STREAMS.map((name) => payments.redis.xrange(name, '-', '+')))
    return entries.map((each) => each.map(([, fields]) => Number(fields[fields.indexOf('amount') + 1])))
  }

  test('is sent once, in order, by relays that are killed before they could remove what they sent', async () => {
    const { sql } = postgres
    const amounts = Array.from({ length: 30 }, (_, index) => index + 1)
    for (const amount of amounts) await purchase(sql, amount % 2 === 0 ? 'ada' : 'bob', amount)
    const isRolledBack = sql.begin(async (transaction) => {
      await transaction`INSERT INTO outbox (stream, fields) VALUES ('payments-of-ada', '{"amount":"999"}')`
      throw new Error('no money')
    })
    await expect(isRolledBack).rejects.toThrow('no money')
    const expected = [amounts.filter((n) => n % 2 === 0), amounts.filter((n) => n % 2 === 1)]

    const goOn = await postgres.holdUp('outbox')
    const first = relay('first')
    await eventually('it has sent and not removed', () => postgres.waiting(), Boolean, PATIENT)
    await first.kill('SIGKILL')
    await goOn()
    expect(await sent()).toEqual(expected)
    expect(await waitingRows()).toBe(30)

    const others = [relay('second'), relay('third')]
    await eventually('everything is removed', waitingRows, (count) => count === 0, PATIENT)
    expect(await sent()).toEqual(expected)

    await purchase(sql, 'ada', 31)
    await eventually('what comes later is sent', sent, ([ada]) => ada?.at(-1) === 31, PATIENT)
    await Promise.all(others.map((program) => program.kill('SIGTERM')))
    expect(await sent()).toEqual([[...(expected[0] ?? []), 31], expected[1]])
    const [row] = await sql<{ sum: string }[]>`SELECT sum(amount) FROM purchase`
    expect(Number(row?.sum)).toBe([...amounts, 31].reduce((sum, n) => sum + n))
  }, 180_000)
})
