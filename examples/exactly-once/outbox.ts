/**
 * A transactional outbox: what has to be sent is written in the same transaction as what it is about, and sent later by a
 * relay. So nothing is sent of a transaction that was rolled back, and nothing is forgotten of one that was committed.
 */
import type { RecordProducer } from '@redis-stream-client/worker'
import type { Sql } from 'postgres'

export const SCHEMA = `
  CREATE TABLE IF NOT EXISTS purchase (
    id bigserial PRIMARY KEY, account text NOT NULL, amount bigint NOT NULL
  );
  CREATE TABLE IF NOT EXISTS outbox (id bigserial PRIMARY KEY, stream text NOT NULL, fields jsonb NOT NULL)`

interface OutboxRow {
  readonly id: string
  readonly stream: string
  readonly fields: Readonly<Record<string, string>>
}

/** Any number that nothing else in this database locks. */
const RELAY_LOCK = 7_211_014

/** The application: a purchase, and the payment that it has to lead to. */
export async function purchase(sql: Sql, account: string, amount: number): Promise<void> {
  await sql.begin(async (sql) => {
    await sql`INSERT INTO purchase (account, amount) VALUES (${account}, ${amount})`
    const fields = { account, amount: String(amount) }
    await sql`INSERT INTO outbox (stream, fields) VALUES (${`payments-of-${account}`}, ${sql.json(fields)})`
  })
}

/**
 * The relay: sends the oldest rows in their order and removes them. Resolves with their number. One that was sent and could
 * not be removed is sent again under the same idempotency key, and the producer drops it.
 */
export async function relay(sql: Sql, producer: RecordProducer): Promise<number> {
  return await sql.begin(async (sql) => {
    await sql`SELECT pg_advisory_xact_lock(${RELAY_LOCK})` // one relay at a time, so that their order is kept
    const rows = await sql<OutboxRow[]>`SELECT id, stream, fields FROM outbox ORDER BY id LIMIT 100`
    const streams = new Map<string, OutboxRow[]>()
    for (const row of rows) streams.set(row.stream, [...(streams.get(row.stream) ?? []), row])
    for (const [stream, itsRows] of streams) {
      await producer.addMany(
        stream,
        itsRows.map(({ fields, id }) => ({ fields, idempotencyKey: `outbox-${id}` })),
      )
    }
    // These and no others: one with a smaller id may have been committed meanwhile.
    if (rows.length > 0) await sql`DELETE FROM outbox WHERE id IN ${sql(rows.map(({ id }) => id))}`
    return rows.length
  })
}
