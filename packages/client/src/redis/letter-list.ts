/** Lists of dead letters: read by the sizes seen so far, and ended early where letters are large. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { BatchSize } from '../decisions/batch-size.js'
import { bytesOf } from './lbs.js'

/** An entry of a stream of dead letters, as XRANGE gives it in buffers. */
export type RawLetter = [id: Buffer, fields: Buffer[]]

const DEFAULT_COUNT = 100
const GREATEST_COUNT = 10_000
/** Letters read at a time, at most and by the sizes seen so far; and bytes after which no more are read for one list. */
const PAGE = 20
const PAGE_BYTES = 1024 * 1024
const GREATEST_BYTES = 16 * 1024 * 1024

/**
 * The oldest first, at most `count`, after the letter `after`; `read` asks for so many from a start of XRANGE on.
 * Rejects with OPTION_INVALID, and with what `read` rejects with.
 */
export async function listLetters<T>(
  {
    after,
    count = DEFAULT_COUNT,
  }: { readonly after?: string | undefined; readonly count?: number | undefined },
  read: (start: string, count: number) => Promise<RawLetter[]>,
  decode: (letter: RawLetter) => T,
): Promise<T[]> {
  if (!Number.isSafeInteger(count) || count < 1 || count > GREATEST_COUNT) {
    const facts = { option: 'count', value: String(count) }
    throw new StreamClientError(
      'OPTION_INVALID',
      `count must be a whole number from 1 to ${GREATEST_COUNT}`,
      facts,
    )
  }
  const letters: T[] = []
  const size = new BatchSize(PAGE_BYTES)
  let start = after === undefined ? '-' : `(${after}`
  for (let bytes = 0; letters.length < count && bytes < GREATEST_BYTES; ) {
    const wanted = size.count(Math.min(PAGE, count - letters.length))
    const entries = await read(start, wanted)
    const sizes = entries.map(bytesOf)
    size.hear(sizes)
    for (const each of sizes) bytes += each
    for (const entry of entries) letters.push(decode(entry))
    const last = entries.at(-1)
    if (last === undefined || entries.length < wanted) break
    start = `(${last[0].toString()}`
  }
  return letters
}
