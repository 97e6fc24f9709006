/** A map that can be looked at and not changed, also not by a program that ignores types. */

/** Shows the entries of a map as they are now; its owner goes on changing that one. */
export class ReadOnlyMap<Key, Value> implements ReadonlyMap<Key, Value> {
  readonly #entries: Map<Key, Value>

  constructor(entries: Map<Key, Value>) {
    this.#entries = entries
    Object.freeze(this)
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: Key): Value | undefined {
    return this.#entries.get(key)
  }

  has(key: Key): boolean {
    return this.#entries.has(key)
  }

  keys(): MapIterator<Key> {
    return this.#entries.keys()
  }

  values(): MapIterator<Value> {
    return this.#entries.values()
  }

  entries(): MapIterator<[Key, Value]> {
    return this.#entries.entries()
  }

  [Symbol.iterator](): MapIterator<[Key, Value]> {
    return this.#entries.entries()
  }

  forEach(act: (value: Value, key: Key, map: ReadonlyMap<Key, Value>) => void, context?: unknown): void {
    for (const [key, value] of this.#entries) act.call(context, value, key, this)
  }
}
