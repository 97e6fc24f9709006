/** Payments in PostgreSQL, each booked once, whatever crashes and whoever comes twice. */
import type { StreamRecord } from '@redis-stream-client/worker'
import type { Sql } from 'postgres'

export const SCHEMA = `
  CREATE TABLE IF NOT EXISTS stream_progress (
    stream text PRIMARY KEY, fence bigint NOT NULL, ms numeric NOT NULL, seq numeric NOT NULL
  );
  CREATE TABLE IF NOT EXISTS account (name text PRIMARY KEY, balance bigint NOT NULL)`

/**
 * Books a payment and notes that its record is done with, both or neither. False if the record was done with before, or if a
 * later owner of its stream has been here.
 */
export async function book(sql: Sql, record: StreamRecord, fencingToken: number): Promise<boolean> {
  const [ms = '', seq = ''] = record.id.split('-')
  const { account = '', amount = '' } = record.fields
  return await sql.begin(async (sql) => {
    const entered = await sql`
      INSERT INTO stream_progress AS done (stream, fence, ms, seq)
      VALUES (${record.dataStreamName}, ${fencingToken}, ${ms}, ${seq})
      ON CONFLICT (stream) DO UPDATE SET fence = excluded.fence, ms = excluded.ms, seq = excluded.seq
      WHERE done.fence <= excluded.fence AND (done.ms, done.seq) < (excluded.ms, excluded.seq)
      RETURNING 1`
    if (entered.length === 0) return false
    await sql`
      INSERT INTO account (name, balance) VALUES (${account}, ${amount})
      ON CONFLICT (name) DO UPDATE SET balance = account.balance + excluded.balance`
    return true
  })
}
