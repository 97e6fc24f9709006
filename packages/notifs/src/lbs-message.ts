/**
 * The JSON text in an entry of the LBS (load-balancer stream) that assigns a data stream:
 * `{"DataStreamName": "...", "Info": {...}}`.
 *
 * Reading is lenient about spelling and strict about meaning. The two names are read in any case; the exact
 * spelling wins over others, of others the last wins. Fields beside them are ignored. What cannot be handed on
 * unchanged is refused, for the entry then goes to the dead letters, where people see it, while a value that
 * changed on its way is seen by nobody. Writing refuses whatever reading refuses.
 */
import { StreamClientError } from './error.js'
import { findInfoFault, type InfoFault, MAX_INFO_DEPTH } from './info-scanner.js'
import { writeInfo } from './info-writer.js'
import type { JsonObject } from './json-object.js'
import { lbsMessageError, quote } from './lbs-message-error.js'
import { isPlainObject, kindOf } from './value-kind.js'

/** One assignment: the data stream to work on, and what the producer has to say about it. */
export interface LbsMessage {
  /** Not empty, and well-formed Unicode. */
  dataStreamName: string
  /** Left out if there is nothing to say. */
  info?: JsonObject
}

/** With the `u` flag a surrogate that has its partner is one character, so only lone ones match. */
const LONE_SURROGATE = /[\uD800-\uDFFF]/u

/** What V8 says of a text that is cut off, and how it ends those messages that name a position. */
const UNEXPECTED_END = 'Unexpected end of JSON input'
const POSITION = / JSON at position (\d+)(?: \(line \d+ column \d+\))?$/

/**
 * Writes a message as JSON. An `info` of null counts as absent.
 *
 * Throws LBS_MESSAGE_INVALID, naming the place, if `dataStreamName` is no text, empty or not well-formed Unicode, and if
 * `info` is anything but a plain object of plain JSON values: `undefined` (also as a hole in an array), NaN,
 * infinities, bigints, symbols, functions (so `toJSON` too), instances of classes (Date and Map among them),
 * cycles, more than 1000 levels. Own enumerable fields are written, each read once; `__proto__` is a key like
 * any other, -0 stays -0.
 */
export function encodeLbsMessage(message: LbsMessage): string {
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
  const { dataStreamName, info } = message as { readonly [key in keyof LbsMessage]?: unknown }
  const name = JSON.stringify(checkName(dataStreamName, 'dataStreamName'))
  if (info === undefined || info === null) return `{"DataStreamName":${name}}`
  return `{"DataStreamName":${name},"Info":${writeInfo(info)}}`
}

/**
 * Reads a message.
 *
 * Throws LBS_MESSAGE_INVALID, saying what is wrong and where, if the text is not JSON or not an object; if
 * DataStreamName is missing, no text, empty, or not well-formed Unicode (in UTF-8 it would become another name);
 * if Info is neither an object nor null, is nested deeper than 1000 levels, or has a number that JSON.parse
 * would silently change, such as 12345678901234567890 or 1e999: that has to be sent as text.
 */
export function decodeLbsMessage(text: string): LbsMessage {
  if (typeof text !== 'string') throw lbsMessageError(`it is not text but ${kindOf(text)}`)
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
  const fault = findInfoFault(text, infoKey)
  if (fault !== undefined) throw faultError(fault)
  return { dataStreamName, info: info as JsonObject }
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

function faultError(fault: InfoFault): StreamClientError {
  const { position } = fault
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
