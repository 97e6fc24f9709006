/** What JSON.stringify says of values it would otherwise show as `{}` or `null`. */
import { messageOf } from './message-of.js'

/** A chain of causes may be long, or a circle. */
const GREATEST_DEPTH = 5

/**
 * Gives an object a `toJSON`, which is no enumerable property, under which its fields say the truth: an Error shows
 * its name, code, message, facts and cause; Infinity and NaN are texts. Answers the object.
 */
export function withJsonForm<Value extends object>(value: Value): Value {
  return Object.defineProperty(value, 'toJSON', {
    value: () => Object.fromEntries(Object.entries(value).map(([name, field]) => [name, formOf(field)])),
  })
}

export interface ErrorJson {
  readonly name: string
  readonly code?: unknown
  readonly message: string
  readonly facts?: object
  readonly cause?: unknown
}

/** An error as plain values. */
export function errorJson(error: Error, depth = 0): ErrorJson {
  const { cause, code, facts } = error as { cause?: unknown; code?: unknown; facts?: object }
  return {
    name: error.name,
    ...(code === undefined ? {} : { code: formOf(code, depth + 1) }),
    message: messageOf(error),
    ...(facts === undefined ? {} : { facts: fieldsOf(facts) }),
    ...(cause === undefined ? {} : { cause: causeOf(cause, depth + 1) }),
  }
}

function fieldsOf(facts: object): object {
  return Object.fromEntries(Object.entries(facts).map(([name, fact]) => [name, formOf(fact)]))
}

function formOf(field: unknown, depth = 0): unknown {
  if (field instanceof Error) return causeOf(field, depth)
  const hasWords = typeof field !== 'bigint' && (typeof field !== 'number' || Number.isFinite(field))
  return hasWords ? field : String(field)
}

/** Whatever was thrown: an object that is no error, or has getters that throw, is left at its text. */
function causeOf(cause: unknown, depth: number): unknown {
  const isError = cause instanceof Error && depth < GREATEST_DEPTH
  try {
    if (isError) return errorJson(cause, depth)
  } catch {
    return messageOf(cause)
  }
  return typeof cause === 'object' && cause !== null ? messageOf(cause) : formOf(cause)
}
