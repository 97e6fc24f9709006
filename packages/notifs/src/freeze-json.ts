/** Making JSON read-only, all the way down. */
import type { JsonObject, JsonValue } from './json-object.js'

/** Freezes what JSON.parse has made, however deep it is, and answers it. Costs nothing if that was done before. */
export function freezeJson(json: JsonObject): JsonObject {
  if (Object.isFrozen(json)) return json
  const rest: (JsonObject | readonly JsonValue[])[] = [json]
  for (let value = rest.pop(); value !== undefined; value = rest.pop()) {
    Object.freeze(value)
    for (const child of Object.values(value)) {
      if (typeof child === 'object' && child !== null) rest.push(child as JsonObject)
    }
  }
  return json
}
