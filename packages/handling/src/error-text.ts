/** What of an error is stored and logged. */
import { readOr } from './failures.js'

const GREATEST_ERROR_BYTES = 1000

/**
 * The text of whatever a handler threw, as it is stored and logged: well-formed, and at most 1000 bytes of UTF-8.
 * Never throws itself, although looking at a hostile value may.
 */
export function describeError(error: unknown): string {
  const text = readOr('an error that cannot be shown', () =>
    error instanceof Error ? `${shorten(error.name)}: ${shorten(error.message)}` : shorten(error),
  )
  const bytes = Buffer.from(text) // lone surrogates become U+FFFD
  return bytes.length <= GREATEST_ERROR_BYTES ? bytes.toString() : cutBytes(bytes)
}

/** No text has fewer bytes than UTF-16 units, so nothing that could be shown is lost. */
function shorten(value: unknown): string {
  return String(value).slice(0, GREATEST_ERROR_BYTES)
}

/** The longest beginning that ends with a whole character. */
function cutBytes(bytes: Buffer): string {
  let end = GREATEST_ERROR_BYTES
  while (((bytes[end] as number) & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}
