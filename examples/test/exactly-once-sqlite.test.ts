/** Payments are booked into a SQLite file once, whatever is killed and whoever comes twice. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { eventually } from '@redis-stream-client/test/support/eventually'
import type { Program } from '@redis-stream-client/test/support/processes'
import type { StreamRecord } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Balances, PATIENT, Payments, startsAt } from './support/payments.js'

type Ledger = typeof import('../exactly-once/sqlite-ledger.js')
type Database = ReturnType<Ledger['openLedger']>

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const hasSqlite = major > 22 || (major === 22 && minor >= 13)
const title = hasSqlite
  ? 'payments in SQLite'
  : `payments in SQLite (SKIPPED: Node ${process.versions.node} has no node:sqlite, 22.13 does)`

describe.skipIf(!hasSqlite)(title, () => {
  let folder: string
  let ledger: Ledger
  let db: Database
  let payments: Payments

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ledger-'))
    // The built one, because the tools of the tests may not know node:sqlite.
    const file = new URL('../dist/exactly-once/sqlite-ledger.js', import.meta.url).href
    ledger = (await import(/* @vite-ignore */ file)) as Ledger
    db = ledger.openLedger(join(folder, 'ledger.db'))
    payments = await Payments.start()
  })
  afterEach(async () => {
    await payments[Symbol.asyncDispose]()
    db.close()
    await rm(folder, { recursive: true, force: true })
  })

  function service(name: string): Program {
    return payments.run('sqlite-service', name, { DATABASE_FILE: join(folder, 'ledger.db') })
  }

  function balances(): Balances {
    const row = db.prepare('SELECT json_group_object(name, balance) AS all_of_them FROM account').get()
    return JSON.parse(row?.['all_of_them'] as string) as Balances
  }

  async function areAllBooked(): Promise<void> {
    await eventually('all is booked', balances, (seen) => isDeepStrictEqual(seen, payments.expected), PATIENT)
  }

  test('are booked once by owners that are killed, and come again', async () => {
    await payments.pay(20)
    db.exec('BEGIN IMMEDIATE') // nothing can be booked meanwhile
    const first = service('first')
    await startsAt(first, '0-0')
    await first.kill('SIGKILL')
    db.exec('COMMIT')
    expect(balances()).toEqual({})

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
    expect(balances()).toEqual(payments.expected)
  }, 180_000)

  test('are booked once while two owners overlap', async () => {
    await payments.pay(200)
    const paused = service('paused')
    await eventually('it books', () => Object.keys(balances()).length, Boolean, PATIENT)
    paused.pause()
    const successor = service('successor')
    await startsAt(successor, '0-0')
    paused.resume()
    await areAllBooked()
    await payments.pay(5)
    await areAllBooked()
    await Promise.all([paused, successor].map((program) => program.kill('SIGTERM')))
    await payments.areHandled()
    expect(balances()).toEqual(payments.expected)
  }, 180_000)

  test('are refused to an owner that was replaced', () => {
    const record = (id: string): StreamRecord =>
      ({ id, dataStreamName: 's', fields: { account: 'ada', amount: '1' } }) as unknown as StreamRecord
    expect(ledger.book(db, record('1-0'), 7)).toBe(true)
    expect(ledger.book(db, record('1-0'), 8)).toBe(false)
    expect(ledger.book(db, record('9-0'), 8)).toBe(true)
    expect(ledger.book(db, record('10-0'), 7)).toBe(false)
    expect(ledger.book(db, record('10-0'), 8)).toBe(true)
    expect(balances()).toEqual({ ada: 3 })
  })
})
