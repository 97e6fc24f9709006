/** JSON as types: what the `Info` of an LBS message is made of. */

/** Whatever JSON can say. A field that may be missing is left out, never `undefined`. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject

/** A JSON object. */
export interface JsonObject {
  readonly [key: string]: JsonValue
}
