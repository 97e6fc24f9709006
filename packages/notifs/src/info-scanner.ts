/**
 * Looks through the text of an LBS message for what JSON.parse accepts and yet would do harm in `Info`: numbers
 * that it silently turns into others, and nesting so deep that code after it may overflow the stack.
 * Ordinary messages pay one test of a regular expression; only those it suspects are looked through.
 */

/** How many objects and arrays may stand in each other, `Info` itself being the first. */
export const MAX_INFO_DEPTH = 1000

/** What is wrong with an `Info`, and at which position of the text. */
export type InfoFault =
  | { readonly type: 'number'; readonly literal: string; readonly position: number }
  | { readonly type: 'depth'; readonly position: number }

/**
 * A number that may not survive: with an exponent, or so long that it may have more than 15 digits, which is
 * what a double keeps for sure.
 */
const SUSPICIOUS_NUMBER = /[:,[]\s*-?(?:[0-9.]{16}|[0-9.]+[eE])/

/**
 * The first fault in the value of the top-level key `infoKey`, undefined if there is none. `text` must be a JSON
 * object that JSON.parse accepts. Fields beside `infoKey` are nobody's concern; of a key that comes twice only
 * the last counts, as with JSON.parse.
 */
export function findInfoFault(text: string, infoKey: string): InfoFault | undefined {
  // To be too deep a text needs a bracket at each end of every level.
  if (text.length <= 2 * MAX_INFO_DEPTH && !SUSPICIOUS_NUMBER.test(text)) return undefined
  let fault: InfoFault | undefined
  let depth = 0
  let expectsKey = false
  let inInfo = false
  let position = 0
  while (position < text.length) {
    const start = position
    const character = text.charAt(position)
    position += 1
    if (character === '"') {
      position = endOfString(text, start)
      if (!expectsKey) continue
      expectsKey = false
      inInfo = JSON.parse(text.slice(start, position)) === infoKey
      if (inInfo) fault = undefined
    } else if (character === '{' || character === '[') {
      depth += 1
      if (depth === 1) expectsKey = true
      else if (inInfo && depth > MAX_INFO_DEPTH + 1) fault ??= { type: 'depth', position: start }
    } else if (character === '}' || character === ']') {
      depth -= 1
    } else if (character === ',') {
      if (depth === 1) expectsKey = true
    } else if (startsNumber(character)) {
      position = endOfNumber(text, position)
      const literal = text.slice(start, position)
      if (inInfo && !survives(literal)) fault ??= { type: 'number', literal, position: start }
    }
  }
  return fault
}

/** The position after the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let position = start + 1
  while (text.charAt(position) !== '"') position += text.charAt(position) === '\\' ? 2 : 1
  return position + 1
}

function endOfNumber(text: string, start: number): number {
  let position = start
  while (position < text.length && '0123456789.eE+-'.includes(text.charAt(position))) position += 1
  return position
}

function startsNumber(character: string): boolean {
  return character === '-' || (character >= '0' && character <= '9')
}

/** True if the literal, read and written again, is still the same number, if perhaps in another spelling. */
export function survives(literal: string): boolean {
  const number = Number(literal)
  if (!Number.isFinite(number)) return false
  const before = decimalOf(literal)
  const after = decimalOf(String(number))
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
