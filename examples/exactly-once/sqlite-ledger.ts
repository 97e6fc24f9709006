/** Payments in a SQLite file, each booked once. As in PostgreSQL; the whole file is what a transaction locks. */
import { DatabaseSync } from 'node:sqlite'
import type { StreamRecord } from '@redis-stream-client/worker'

const ENTER = `
  INSERT INTO stream_progress AS done (stream, fence, ms, seq) VALUES (?, ?, ?, ?)
  ON CONFLICT (stream) DO UPDATE SET fence = excluded.fence, ms = excluded.ms, seq = excluded.seq
  WHERE done.fence <= excluded.fence AND (done.ms, done.seq) < (excluded.ms, excluded.seq)`
const BOOK = `
  INSERT INTO account (name, balance) VALUES (?, ?)
  ON CONFLICT (name) DO UPDATE SET balance = balance + excluded.balance`

export function openLedger(path: string): DatabaseSync {
  const db = new DatabaseSync(path)
  // Waiting for another process blocks the event loop, and so the heartbeat: much less than the lease of 2 s.
  db.exec(`
    PRAGMA busy_timeout = 250;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS stream_progress (
      stream TEXT PRIMARY KEY, fence INTEGER NOT NULL, ms INTEGER NOT NULL, seq INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, balance INTEGER NOT NULL)`)
  return db
}

/**
 * Books a payment and notes that its record is done with, both or neither. False if the record was done with before, or if a
 * later owner of its stream has been here. Throws when the file stays locked: the worker then tries again.
 */
export function book(db: DatabaseSync, record: StreamRecord, fencingToken: number): boolean {
  const [ms, seq] = record.id.split('-').map(Number) as [number, number]
  const { account = '', amount } = record.fields
  db.exec('BEGIN IMMEDIATE')
  try {
    const isEntered = db.prepare(ENTER).run(record.dataStreamName, fencingToken, ms, seq).changes === 1
    if (isEntered) db.prepare(BOOK).run(account, Number(amount))
    db.exec('COMMIT')
    return isEntered
  } catch (error) {
    db.exec('ROLLBACK')
    throw error
  }
}
