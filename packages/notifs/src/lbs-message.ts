/**
 * The JSON text in an entry of the LBS (load-balancer stream) that assigns a data stream:
 * `{"DataStreamName": "...", "Info": {...}}`.
 *
 * Reading is lenient about spelling and strict about meaning. The two names are read in any case; the exact
 * spelling wins over others, of others the last wins. Fields beside them are ignored. What cannot be handed on
 * unchanged is refused, for the entry then goes to the dead letters, where people see it, while a value that
 * changed on its way is seen by nobody. Writing refuses whatever reading refuses.
 *
 * One kind of value is handed on in another form: an integer in Info beyond Number.MAX_SAFE_INTEGER, as producers in
 * other languages write it, becomes its decimal text. It becomes that also where a number could hold it by chance, so
 * that a field of such integers is always text.
 */
import { StreamClientError } from './error.js'
import {
  type InfoFault,
  inspectInfo,
  isSuspicious,
  MAX_INFO_DEPTH,
  type MessageSource,
  type Span,
} from './info-scanner.js'
import { writeInfo } from './info-writer.js'
import type { JsonObject, JsonObjectWithBigInts } from './json-object.js'
import { lbsMessageError, quote } from './lbs-message-error.js'
import { isPlainObject, kindOf } from './value-kind.js'

/** One assignment: the data stream to work on, and what the producer has to say about it. */
export interface LbsMessage {
  /** Not empty, and well-formed Unicode. */
  dataStreamName: string
  /** Left out if there is nothing to say. */
  info?: JsonObject
}

/** A message to write: as LbsMessage, and with integers of any size as bigint. */
export interface NewLbsMessage {
  dataStreamName: string
  info?: JsonObjectWithBigInts
}

export interface DecodeOptions {
  /**
   * What becomes of integers in Info beyond Number.MAX_SAFE_INTEGER: `text` (default) hands each over as its decimal
   * text, `refuse` refuses those that a number of JavaScript would change and reads the others as numbers.
   */
  readonly infoNumbers?: 'text' | 'refuse'
  /** Called with the text of each integer that is handed over as text, in the order of the message. */
  readonly onIntegerAsText?: (text: string) => void
}

/** With the `u` flag a surrogate that has its partner is one character, so only lone ones match. */
const LONE_SURROGATE = /[\uD800-\uDFFF]/u

const QUOTE = 0x22

/** Refuses what is not UTF-8. A byte order mark is kept, for JSON to refuse. */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** What V8 says of a text that is cut off, and how it ends those messages that name a position. */
const UNEXPECTED_END = 'Unexpected end of JSON input'
const POSITION = / JSON at position (\d+)(?: \(line \d+ column \d+\))?$/

/**
 * Writes a message as JSON. An `info` of null counts as absent.
 *
 * Throws LBS_MESSAGE_INVALID, naming the place, if `dataStreamName` is no text, empty or not well-formed Unicode, and if
 * `info` is anything but a plain object of plain JSON values and bigints: `undefined` (also as a hole in an array), NaN,
 * infinities, symbols, functions (so `toJSON` too), instances of classes (Date and Map among them), cycles, more than
 * 1000 levels. Own enumerable fields are written, each read once; `__proto__` is a key like any other, -0 stays -0.
 *
 * A bigint is written as an integer, to be read as number or, beyond Number.MAX_SAFE_INTEGER, as text. A number beyond
 * that is written with an exponent, so that it is read as the number it was.
 */
export function encodeLbsMessage(message: NewLbsMessage): string {
  try {
    return write(message)
  } catch (error) {
    if (error instanceof StreamClientError) throw error
    // A getter that throws, or a stack that was nearly full when we were called.
    throw lbsMessageError(
      `it cannot be read: ${error instanceof Error ? error.message : kindOf(error)}`,
      {},
      error,
    )
  }
}

function write(message: unknown): string {
  if (typeof message !== 'object' || message === null) {
    throw lbsMessageError(`it is not an object but ${kindOf(message)}`)
  }
  const { dataStreamName, info } = message as { readonly [key in keyof NewLbsMessage]?: unknown }
  const name = JSON.stringify(checkName(dataStreamName, 'dataStreamName'))
  if (info === undefined || info === null) return `{"DataStreamName":${name}}`
  return `{"DataStreamName":${name},"Info":${writeInfo(info)}}`
}

/**
 * Reads a message from its text or its UTF-8.
 *
 * Throws LBS_MESSAGE_INVALID, saying what is wrong and where, if the bytes are not UTF-8 (read as text, two names could
 * become one); if the text is not JSON or not an object; if DataStreamName is missing, no text, empty, or not well-formed
 * Unicode; if Info is neither an object nor null, is nested deeper than 1000 levels, or has a number that JSON.parse would
 * silently change, such as 0.1234567890123456789 or 1e999: that has to be sent as text. For integers see `infoNumbers`.
 */
export function decodeLbsMessage(source: string | Uint8Array, options: DecodeOptions = {}): LbsMessage {
  const text = textOf(source)
  const fields = parse(text)
  if (!isPlainObject(fields)) throw lbsMessageError(`it is not a JSON object but ${kindOf(fields)}`)
  const nameKey = findKey(fields, 'DataStreamName')
  if (nameKey === undefined) throw lbsMessageError('it has no DataStreamName', { field: 'DataStreamName' })
  const dataStreamName = checkName(fields[nameKey], 'DataStreamName')
  const infoKey = findKey(fields, 'Info')
  const info = infoKey === undefined ? null : fields[infoKey]
  if (infoKey === undefined || info === null) return { dataStreamName }
  if (!isPlainObject(info)) {
    throw lbsMessageError(`Info is not an object but ${kindOf(info)}`, { field: 'Info' })
  }
  if (!isSuspicious(text)) return { dataStreamName, info: info as JsonObject }
  const bytes = typeof source === 'string' ? new TextEncoder().encode(source) : source
  return { dataStreamName, info: readNumbers({ bytes, text }, infoKey, info as JsonObject, options) }
}

function textOf(source: unknown): string {
  if (typeof source === 'string') return source
  if (!(source instanceof Uint8Array)) throw lbsMessageError(`it is not text but ${kindOf(source)}`)
  try {
    return utf8.decode(source)
  } catch (error) {
    throw lbsMessageError('it is not UTF-8', {}, error)
  }
}

/** Info with its large integers as text, if they shall be. `info` is what JSON.parse has made of it. */
function readNumbers(
  source: MessageSource,
  infoKey: string,
  info: JsonObject,
  { infoNumbers = 'text', onIntegerAsText }: DecodeOptions,
): JsonObject {
  const { fault, largeIntegers } = inspectInfo(source, infoKey, infoNumbers)
  const { bytes } = source
  if (fault !== undefined) throw faultError(fault, bytes)
  if (largeIntegers.length === 0) return info
  for (const { start, end } of largeIntegers) onIntegerAsText?.(utf8.decode(bytes.subarray(start, end)))
  const quoted = JSON.parse(utf8.decode(quoteSpans(bytes, largeIntegers))) as Record<string, JsonObject>
  return quoted[infoKey] as JsonObject
}

/** A copy of `bytes` with quotes around each span. */
function quoteSpans(bytes: Uint8Array, spans: readonly Span[]): Uint8Array {
  const quoted = new Uint8Array(bytes.length + 2 * spans.length)
  let from = 0
  let to = 0
  const copy = (end: number): void => {
    quoted.set(bytes.subarray(from, end), to)
    to += end - from
    from = end
  }
  for (const { start, end } of spans) {
    copy(start)
    quoted[to++] = QUOTE
    copy(end)
    quoted[to++] = QUOTE
  }
  copy(bytes.length)
  return quoted
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const { message } = error as SyntaxError
    const position = message === UNEXPECTED_END ? text.length : positionIn(message)
    const where = message === UNEXPECTED_END ? ` at position ${text.length}` : ''
    throw lbsMessageError(
      `it is not JSON: ${message}${where}`,
      position === undefined ? {} : { position },
      error,
    )
  }
}

/** The position that an error of JSON.parse names; for some errors it shows the surroundings instead. */
function positionIn(message: string): number | undefined {
  const position = POSITION.exec(message)?.[1]
  return position === undefined ? undefined : Number(position)
}

/** The key to read for `name`: the exact one, else the last that differs only in case. */
function findKey(fields: Readonly<Record<string, unknown>>, name: string): string | undefined {
  if (Object.hasOwn(fields, name)) return name
  return Object.keys(fields).findLast(
    (key) => key.length === name.length && key.toLowerCase() === name.toLowerCase(),
  )
}

function checkName(name: unknown, field: string): string {
  if (typeof name !== 'string')
    throw lbsMessageError(`${field} is not a string but ${kindOf(name)}`, { field })
  if (name === '') throw lbsMessageError(`${field} is empty`, { field })
  const index = name.search(LONE_SURROGATE)
  if (index === -1) return name
  throw lbsMessageError(`${field} is not well-formed Unicode: a lone surrogate at index ${index}`, {
    field,
    index,
  })
}

/** The position in an error is one in the text, not in its bytes. */
function faultError(fault: InfoFault, bytes: Uint8Array): StreamClientError {
  const position = utf8.decode(bytes.subarray(0, fault.offset)).length
  switch (fault.type) {
    case 'depth':
      return lbsMessageError(`Info is nested deeper than ${MAX_INFO_DEPTH} levels at position ${position}`, {
        field: 'Info',
        position,
      })
    case 'number': {
      const literal = quote(fault.literal)
      return lbsMessageError(
        `the number ${literal} in Info, at position ${position}, would become ${Number(fault.literal)}; send it as text`,
        { field: 'Info', position, literal },
      )
    }
    default:
      return fault satisfies never
  }
}
