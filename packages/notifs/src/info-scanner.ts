/**
 * Looks through the bytes of an LBS message for what JSON.parse accepts and yet would do harm in `Info`: numbers
 * that it silently turns into others, and nesting so deep that code after it may overflow the stack.
 *
 * Ordinary messages pay one test of a regular expression. Others are gone through once, byte by byte, which takes less
 * time than JSON.parse: strings are skipped, and most numbers are seen to survive without being read.
 */

/** How many objects and arrays may stand in each other, `Info` itself being the first. */
export const MAX_INFO_DEPTH = 1000

/** What is wrong with an `Info`, and at which byte of the message. */
export type InfoFault =
  | { readonly type: 'number'; readonly literal: string; readonly offset: number }
  | { readonly type: 'depth'; readonly offset: number }

/** Where something stands in a message: its first byte, and the byte after it. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** A message in both forms. */
export interface MessageSource {
  readonly bytes: Uint8Array
  readonly text: string
}

/** What was found in an `Info`. */
export interface InfoFindings {
  /** The first fault, if there is one. */
  readonly fault: InfoFault | undefined
  /** Integers beyond Number.MAX_SAFE_INTEGER or below its negative, in their order. None if they are to be refused. */
  readonly largeIntegers: readonly Span[]
}

/** A number that may not survive: with an exponent, or with more digits than a double keeps for sure. */
const SUSPICIOUS_NUMBER = /[:,[]\s*-?(?:[0-9.]{16}|[0-9.]+[eE])/
/** The digits of a number, read as an integer up to this, survive: doubles are as close together or closer. */
const SURE_MANTISSA = 2 ** 52
/** A number with such a mantissa and no greater exponent is neither infinite nor subnormal. */
const SURE_EXPONENT = 290

const QUOTE = 0x22
const PLUS = 0x2b
const MINUS = 0x2d
const POINT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const BACKSLASH = 0x5c
const SMALL_E = 0x65
const UPPER_TO_LOWER = 0x20

/** What a byte outside of strings begins. */
const OTHER = 0
const QUOTES = 1
const OPENING = 2
const CLOSING = 3
const COMMA = 4
const NUMBER = 5
const KINDS = new Uint8Array(256)
for (const [characters, kind] of [
  ['"', QUOTES],
  ['{[', OPENING],
  ['}]', CLOSING],
  [',', COMMA],
  ['-0123456789', NUMBER],
] as const) {
  for (const character of characters) KINDS[character.charCodeAt(0)] = kind
}

/** A string is gone through for so long before its end is searched: a search is fast, but slow to begin. */
const SHORT_STRETCH = 64

const decoder = new TextDecoder()

/** False if there is certainly nothing to be found in any part of the message `text`. */
export function isSuspicious(text: string): boolean {
  // To be too deep a text needs a bracket at each end of every level.
  return text.length > 2 * MAX_INFO_DEPTH || SUSPICIOUS_NUMBER.test(text)
}

/**
 * What is to be said of the value of the top-level key `infoKey`. The message must be a JSON object that JSON.parse accepts.
 * Fields beside `infoKey` are nobody's concern; of a key that comes twice only the last counts, as with JSON.parse.
 */
export function inspectInfo(
  { bytes, text }: MessageSource,
  infoKey: string,
  infoNumbers: 'text' | 'refuse' = 'text',
): InfoFindings {
  let fault: InfoFault | undefined
  let largeIntegers: Span[] = []
  let depth = 0
  let expectsKey = false
  let inInfo = false
  for (let offset = 0; offset < bytes.length; ) {
    const start = offset
    const kind = KINDS[bytes[offset] as number] as number
    offset += 1
    switch (kind) {
      case OTHER:
        break
      case QUOTES:
        offset = endOfString(bytes, offset)
        if (!expectsKey) break
        expectsKey = false
        inInfo = isKey(bytes.subarray(start, offset), infoKey)
        if (!inInfo) break
        fault = undefined
        largeIntegers = []
        break
      case OPENING:
        depth += 1
        if (depth === 1) expectsKey = true
        else if (inInfo && depth > MAX_INFO_DEPTH + 1) fault ??= { type: 'depth', offset: start }
        break
      case CLOSING:
        depth -= 1
        break
      case COMMA:
        if (depth === 1) expectsKey = true
        break
      case NUMBER: {
        offset = endOfNumber(bytes, offset)
        const size = inInfo ? sizeOf(bytes, start, offset) : 'small'
        if (size === 'small') break
        if (size === 'large integer' && infoNumbers === 'text') {
          largeIntegers.push({ start, end: offset })
          break
        }
        // A slice costs next to nothing, where bytes and characters are the same.
        const isAscii = text.length === bytes.length
        const literal = isAscii ? text.slice(start, offset) : decoder.decode(bytes.subarray(start, offset))
        if (!survives(literal)) fault ??= { type: 'number', literal, offset: start }
      }
    }
  }
  return { fault, largeIntegers }
}

/** Whether a string, quotes included, is the JSON of `key`, which is ASCII. */
function isKey(literal: Uint8Array, key: string): boolean {
  if (literal.length !== key.length + 2 && !literal.includes(BACKSLASH)) return false
  return JSON.parse(decoder.decode(literal)) === key
}

/** The offset after the string whose first character is at `start`. */
function endOfString(bytes: Uint8Array, start: number): number {
  let offset = start
  for (;;) {
    for (const near = offset + SHORT_STRETCH; offset < near; offset += 1) {
      const byte = bytes[offset]
      if (byte === QUOTE) return offset + 1
      if (byte === BACKSLASH) offset += 1
    }
    const quote = bytes.indexOf(QUOTE, offset)
    let before = quote
    while (before > offset && bytes[before - 1] === BACKSLASH) before -= 1
    offset = quote + 1
    if ((quote - before) % 2 === 0) return offset
  }
}

function endOfNumber(bytes: Uint8Array, start: number): number {
  let offset = start
  while (isPartOfNumber(bytes[offset] as number)) offset += 1
  return offset
}

function isPartOfNumber(byte: number): boolean {
  if (byte >= ZERO && byte <= NINE) return true
  return byte === POINT || byte === MINUS || byte === PLUS || (byte | UPPER_TO_LOWER) === SMALL_E
}

/** Whether a number is so small that a double keeps it for sure, is an integer too large for that, or has to be tried. */
function sizeOf(bytes: Uint8Array, start: number, end: number): 'small' | 'large integer' | 'doubtful' {
  let mantissa = 0
  let isInteger = true
  let offset = start
  for (; offset < end; offset += 1) {
    const byte = bytes[offset] as number
    if (byte > NINE) break
    if (byte >= ZERO) mantissa = 10 * mantissa + (byte - ZERO)
    else if (byte === POINT) isInteger = false
  }
  if (offset === end && isInteger) return mantissa > Number.MAX_SAFE_INTEGER ? 'large integer' : 'small'
  let exponent = 0
  for (; offset < end; offset += 1) {
    const byte = bytes[offset] as number
    if (byte >= ZERO && byte <= NINE) exponent = 10 * exponent + (byte - ZERO)
  }
  return mantissa <= SURE_MANTISSA && exponent <= SURE_EXPONENT ? 'small' : 'doubtful'
}

/** True if the literal, read and written again, is still the same number, if perhaps in another spelling. */
export function survives(literal: string): boolean {
  const number = Number(literal)
  if (!Number.isFinite(number)) return false
  const written = String(number)
  if (written === literal) return true
  const before = decimalOf(literal)
  const after = decimalOf(written)
  return before.digits === after.digits && before.exponent === after.exponent
}

/** A number as `digits * 10 ** exponent`, without zeros at either end of the digits; the sign is left out. */
interface Decimal {
  readonly digits: string
  readonly exponent: number
}

function decimalOf(literal: string): Decimal {
  const [mantissa = '', power = '0'] = literal.toLowerCase().split('e')
  const [whole = '', fraction = ''] = mantissa.replace('-', '').split('.')
  const all = whole + fraction
  let first = 0
  while (all.charAt(first) === '0') first += 1
  if (first === all.length) return { digits: '', exponent: 0 }
  let end = all.length
  while (all.charAt(end - 1) === '0') end -= 1
  return { digits: all.slice(first, end), exponent: Number(power) + all.length - end - fraction.length }
}
