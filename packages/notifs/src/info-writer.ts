/**
 * Writes an `Info` as JSON, or refuses it. JSON.stringify would leave out what it cannot say (functions,
 * undefined), replace it (NaN by null, a Date by a text, a Map by `{}`), or overflow the stack; here nothing is
 * written but what is read back as the same value; a bigint as the integer it is.
 */
import { MAX_INFO_DEPTH } from './info-scanner.js'
import { lbsMessageError, quote } from './lbs-message-error.js'
import { isPlainObject, kindOf } from './value-kind.js'

/** Where the writer is: the way down to the current value, and the objects and arrays on that way. */
interface Place {
  readonly steps: (string | number)[]
  readonly containers: Set<object>
}

const IDENTIFIER = /^[A-Za-z_$][\w$]*$/

/** The JSON text of `info`. Throws LBS_MESSAGE_INVALID, naming the place, for what JSON would change. */
export function writeInfo(info: unknown): string {
  if (!isPlainObject(info))
    throw lbsMessageError(`info is not a plain object but ${kindOf(info)}`, { field: 'info' })
  return writeContainer(info, { steps: [], containers: new Set() })
}

function writeValue(value: unknown, place: Place): string {
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'object') return writeContainer(value, place)
  if (typeof value !== 'number') throw refusal(place, `is ${kindOf(value)}, which JSON cannot say`)
  if (!Number.isFinite(value)) throw refusal(place, `is ${value}, which JSON cannot say`)
  if (Object.is(value, -0)) return '-0'
  // Without an exponent a large integer would be read as text.
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? value.toExponential() : String(value)
}

function writeContainer(container: object, place: Place): string {
  const { containers } = place
  if (containers.has(container)) throw refusal(place, 'contains itself')
  if (containers.size === MAX_INFO_DEPTH)
    throw refusal(place, `is nested deeper than ${MAX_INFO_DEPTH} levels`)
  containers.add(container)
  const text = Array.isArray(container) ? writeArray(container, place) : writeObject(container, place)
  containers.delete(container)
  return text
}

function writeArray(array: readonly unknown[], place: Place): string {
  const elements: string[] = []
  // By index, for a hole in the array is undefined too.
  for (let index = 0; index < array.length; index += 1) {
    place.steps.push(index)
    elements.push(writeValue(array[index], place))
    place.steps.pop()
  }
  return `[${elements.join(',')}]`
}

function writeObject(object: object, place: Place): string {
  if (!isPlainObject(object)) throw refusal(place, `is ${kindOf(object)}: write it as plain JSON`)
  if (Object.getOwnPropertySymbols(object).length > 0) throw refusal(place, 'has a symbol as key')
  const members: string[] = []
  for (const key of Object.keys(object)) {
    place.steps.push(key)
    members.push(`${JSON.stringify(key)}:${writeValue(object[key], place)}`)
    place.steps.pop()
  }
  return `{${members.join(',')}}`
}

function refusal(place: Place, problem: string): Error {
  const path = place.steps.reduce<string>((before, step) => {
    if (typeof step === 'number') return `${before}[${step}]`
    return IDENTIFIER.test(step) ? `${before}.${step}` : `${before}[${JSON.stringify(step)}]`
  }, 'info')
  return lbsMessageError(`${quote(path)} ${problem}`, { field: 'info', path })
}
