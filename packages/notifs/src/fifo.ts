/**
 * First in, first out, in constant time for each item: Array.shift moves everything that is behind. What is taken
 * is let go at once, also while others wait.
 */

export class Fifo<Item> {
  #items: (Item | undefined)[] = []
  /** Places before this index are empty. */
  #start = 0

  get length(): number {
    return this.#items.length - this.#start
  }

  /** The item that has waited longest; undefined if none waits. */
  get first(): Item | undefined {
    return this.#items[this.#start]
  }

  push(item: Item): void {
    this.#items.push(item)
  }

  shift(): Item | undefined {
    if (this.length === 0) return undefined
    const item = this.first
    this.#items[this.#start] = undefined
    this.#start += 1
    // Cut off once half is empty: what is moved then is never more than what was taken since the last time.
    if (this.#start * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#start)
      this.#start = 0
    }
    return item
  }

  /** Takes up to so many of the longest waiting. */
  take(count: number): Item[] {
    const taken = this.peek(count)
    for (const _ of taken) this.shift()
    return taken
  }

  /** Up to so many of the longest waiting, which stay where they are. */
  peek(count: number): Item[] {
    return this.#items.slice(this.#start, this.#start + count) as Item[]
  }

  clear(): void {
    this.#items = []
    this.#start = 0
  }
}
