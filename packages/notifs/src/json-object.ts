/** JSON as types: what the `Info` of an LBS message is made of. */

/** Whatever JSON can say. A field that may be missing is left out, never `undefined`. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject

/** A JSON object. */
export interface JsonObject {
  readonly [key: string]: JsonValue
}

/** JSON to be written, in which an integer of any size may stand as a bigint. */
export type JsonValueWithBigInts =
  | string
  | number
  | bigint
  | boolean
  | null
  | readonly JsonValueWithBigInts[]
  | JsonObjectWithBigInts

/** A JSON object to be written. Every JsonObject is one. */
export interface JsonObjectWithBigInts {
  readonly [key: string]: JsonValueWithBigInts
}
