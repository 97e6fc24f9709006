/** Payments are booked into PostgreSQL once, whatever is killed and whoever comes twice. */
import { isDeepStrictEqual } from 'node:util'
import { eventually } from '@redis-stream-client/test/support/eventually'
import type { Program } from '@redis-stream-client/test/support/processes'
import type { StreamRecord } from '@redis-stream-client/worker'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { book, SCHEMA } from '../exactly-once/postgres-ledger.js'
import { type Balances, PATIENT, Payments, startsAt } from './support/payments.js'
import { PostgresServer, whyNoPostgres } from './support/postgres-server.js'

const reason = whyNoPostgres()
const title = reason === null ? 'payments in PostgreSQL' : `payments in PostgreSQL (SKIPPED: ${reason})`

describe.skipIf(reason !== null)(title, () => {
  let postgres: PostgresServer
  let payments: Payments

  beforeAll(async () => {
    postgres = await PostgresServer.start()
  }, 60_000)
  afterAll(() => postgres[Symbol.asyncDispose]())
  beforeEach(async () => {
    await postgres.sql.unsafe(`DROP TABLE IF EXISTS stream_progress, account; ${SCHEMA}`)
    payments = await Payments.start()
  })
  afterEach(() => payments[Symbol.asyncDispose]())

  function service(name: string): Program {
    return payments.run('postgres-service', name, { DATABASE_URL: postgres.url })
  }

  async function balances(): Promise<Balances> {
    const rows = await postgres.sql<{ name: string; balance: string }[]>`SELECT name, balance FROM account`
    return Object.fromEntries(rows.map(({ balance, name }) => [name, Number(balance)]))
  }

  async function areAllBooked(): Promise<void> {
    await eventually('all is booked', balances, (seen) => isDeepStrictEqual(seen, payments.expected), PATIENT)
  }

  test('are booked once by owners that are killed between the steps', async () => {
    await payments.pay(20)
    const goOn = await postgres.holdUp('account')
    const first = service('first')
    await eventually('it has noted a position and not booked yet', () => postgres.waiting(), Boolean, PATIENT)
    await first.kill('SIGKILL')
    await goOn()
    expect(await balances()).toEqual({})

    const second = service('second')
    await areAllBooked()
    await second.kill('SIGKILL')
    expect(await payments.checkpoints()).toEqual({}) // so that all of it comes again

    const third = service('third')
    await startsAt(third, '0-0')
    await payments.pay(5)
    await areAllBooked()
    await third.kill('SIGTERM')
    await payments.areHandled()
    expect(await balances()).toEqual(payments.expected)
  }, 180_000)

  test('are booked once while two owners overlap', async () => {
    await payments.pay(20)
    const goOn = await postgres.holdUp('account')
    const paused = service('paused')
    // One transaction for each stream.
    await eventually(
      'it is in the middle',
      () => postgres.waiting(),
      (count) => count === 3,
      PATIENT,
    )
    paused.pause()
    const successor = service('successor')
    await eventually(
      'its successor waits for it',
      () => postgres.waiting(),
      (count) => count > 3,
      PATIENT,
    )
    await goOn()
    paused.resume()
    await areAllBooked()
    await payments.pay(5)
    await areAllBooked()
    await Promise.all([paused, successor].map((program) => program.kill('SIGTERM')))
    await payments.areHandled()
    expect(await balances()).toEqual(payments.expected)
  }, 180_000)

  test('are refused to an owner that was replaced', async () => {
    const record = (id: string): StreamRecord =>
      ({ id, dataStreamName: 's', fields: { account: 'ada', amount: '1' } }) as unknown as StreamRecord
    const { sql } = postgres
    expect(await book(sql, record('1-0'), 7)).toBe(true)
    expect(await book(sql, record('1-0'), 8)).toBe(false)
    expect(await book(sql, record('9-0'), 8)).toBe(true)
    expect(await book(sql, record('10-0'), 7)).toBe(false)
    expect(await book(sql, record('10-0'), 8)).toBe(true)
    expect(await balances()).toEqual({ ada: 3 })
  })
})
