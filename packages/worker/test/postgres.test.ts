/** The guide's way to exactly-once effects in PostgreSQL (docs/guides/worker.md), against a real server. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import type { RecordContext, StreamRecord } from '@redis-stream-client/worker'
import type { Sql } from 'postgres'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { PostgresServer, whyNoPostgres } from './support/postgres-server.js'
import { seen, World } from './support/world.js'

const reason = whyNoPostgres()
const title = reason === null ? 'effects in PostgreSQL' : `effects in PostgreSQL (skipped: ${reason})`

/** True if the record is this owner's to handle: not done before, and nobody owned the stream later. */
async function enter(sql: Sql, record: StreamRecord, fencingToken: number): Promise<boolean> {
  const [ms, seq] = record.id.split('-') as [string, string]
  const rows = await sql`
    INSERT INTO stream_progress AS done (stream, fence, ms, seq)
    VALUES (${record.dataStreamName}, ${fencingToken}, ${ms}, ${seq})
    ON CONFLICT (stream) DO UPDATE SET fence = excluded.fence, ms = excluded.ms, seq = excluded.seq
    WHERE done.fence <= excluded.fence AND (done.ms, done.seq) < (excluded.ms, excluded.seq)
    RETURNING 1`
  return rows.length === 1
}

async function book(sql: Sql, record: StreamRecord, fencingToken: number): Promise<void> {
  await sql.begin(async (transaction) => {
    if (!(await enter(transaction as unknown as Sql, record, fencingToken))) return
    await transaction`UPDATE account SET balance = balance + ${Number(record.fields['n'])}`
  })
}

describe.skipIf(reason !== null)(title, () => {
  let world: World
  let server: PostgresServer

  beforeEach(async () => {
    server = await PostgresServer.start()
    await server.sql`
      CREATE TABLE stream_progress (stream text PRIMARY KEY, fence bigint NOT NULL, ms numeric NOT NULL, seq numeric NOT NULL)`
    await server.sql`CREATE TABLE account (balance bigint NOT NULL)`
    await server.sql`INSERT INTO account VALUES (0)`
    world = await World.start()
  })
  afterEach(async () => {
    await world[Symbol.asyncDispose]()
    await server[Symbol.asyncDispose]()
  })

  test('happen once, although records come again after their owner was lost', async () => {
    const ids = await world.fill('s', 60)
    let calls = 0
    const seenRecords: [StreamRecord, number][] = []
    const options = {
      commitEvery: 1000,
      commitIntervalMs: 60_000,
      client: { heartbeatTtlMs: 600, lbsIdleTimeMs: 1200 },
      process: async (record: StreamRecord, { stream: { fencingToken } }: RecordContext): Promise<void> => {
        calls++
        seenRecords.push([record, fencingToken])
        await book(server.sql, record, fencingToken)
      },
    }
    const a = world.start('a', options)
    await eventually('half is booked', () => calls >= 30, Boolean, { timeoutMs: 15_000 })
    await world.redis.del('orders-heartbeat:redis-consumer-a') // a is over, and has committed nothing
    world.start('b', options)
    await eventually(
      'everything was handled again',
      () => seenRecords.at(-1)?.[0].id === ids[59] && calls > 60,
      Boolean,
      {
        timeoutMs: 20_000,
      },
    )
    const balance = async (): Promise<number> => {
      const [row] = await server.sql<{ balance: string }[]>`SELECT balance FROM account`
      return Number(row?.balance)
    }
    await eventually('all is booked', balance, (sum) => sum === 1770)
    await seen(a, 'streamEnded', ({ how }) => how === 'lost')
    await world.fill('s', 1, { first: 60, assign: false })
    await eventually('one more is booked', balance, (sum) => sum === 1830)
    // The former owner comes back with a record nobody has seen.
    const [oldRecord, oldFence] = seenRecords[0] as [StreamRecord, number]
    await book(
      server.sql,
      Object.create(oldRecord, { id: { value: '99999999999999-0' }, fields: { value: { n: '1' } } }),
      oldFence,
    )
    expect(await balance()).toBe(1830)
  }, 60_000)
})
