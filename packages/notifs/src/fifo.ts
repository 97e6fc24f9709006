/** First in, first out, in constant time each: Array.shift moves everything that is behind. */

export class Fifo<Item> {
  #items: Item[] = []
  /** Items before this index are gone already. */
  #start = 0

  push(item: Item): void {
    this.#items.push(item)
  }

  shift(): Item | undefined {
    if (this.#start === this.#items.length) return undefined
    const item = this.#items[this.#start]
    this.#start += 1
    // Cut off once half is gone: what is moved then is never more than what was taken since the last time.
    if (this.#start * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#start)
      this.#start = 0
    }
    return item
  }

  get isEmpty(): boolean {
    return this.#start === this.#items.length
  }
}
