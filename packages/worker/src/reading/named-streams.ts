/**
 * The streams that one XREAD names, as the words of its command. They are kept from read to read, and a stream that
 * was read only gets its new position: with thousands of streams making all words anew costs more than reading.
 */

import { type RawRecord, START } from '@redis-stream-client/handling'

/** What a reader reads for. */
export interface ReadTarget {
  readonly name: string
  readonly readPosition: string
  readonly isHungry: boolean
  /** True if nothing of it is in memory. */
  readonly isEmpty: boolean
  accept(after: string, records: readonly RawRecord[]): void
}

export type ReadReply = [key: Buffer, records: RawRecord[]][] | null

/** COUNT n BLOCK ms STREAMS, then the keys, then the position of each. */
const FIRST_KEY = 5

export class NamedStreams {
  readonly targets: readonly ReadTarget[]
  readonly #wakeKey: string
  readonly #indexOf: ReadonlyMap<string, number>
  readonly #words: string[]

  /** The wake stream comes last; it is read on where `before` was. */
  constructor(targets: readonly ReadTarget[], wakeKey: string, before: NamedStreams | null) {
    this.targets = targets
    this.#wakeKey = wakeKey
    this.#indexOf = new Map(targets.map(({ name }, index) => [name, index]))
    this.#words = [
      'COUNT',
      '',
      'BLOCK',
      '',
      'STREAMS',
      ...targets.map(({ name }) => name),
      wakeKey,
      ...targets.map(({ readPosition }) => readPosition),
      before === null ? START : before.#wakePosition,
    ]
  }

  has(target: ReadTarget): boolean {
    const index = this.#indexOf.get(target.name)
    return index !== undefined && this.targets[index] === target
  }

  /** The words after XREAD. */
  words(count: number, blockMs: number): string[] {
    this.#words[1] = String(count)
    this.#words[3] = String(blockMs)
    return this.#words
  }

  /** Hands out what was read to those that are still read for. True if all of them are to be named again. */
  deliver(reply: ReadReply, isReadFor: (target: ReadTarget) => boolean): boolean {
    let isUnchanged = true
    for (const [keyBytes, records] of reply ?? []) {
      const key = keyBytes.toString()
      const index = this.#indexOf.get(key)
      if (key === this.#wakeKey) {
        this.#wakePosition = records.at(-1)?.[0].toString() ?? this.#wakePosition
      } else if (index !== undefined) {
        const target = this.targets[index] as ReadTarget
        if (isReadFor(target)) this.#deliver(target, index, records)
        isUnchanged &&= isReadFor(target) && target.isHungry
      }
    }
    return isUnchanged
  }

  #deliver(target: ReadTarget, index: number, records: readonly RawRecord[]): void {
    const at = FIRST_KEY + this.targets.length + 1 + index
    target.accept(this.#words[at] as string, records)
    this.#words[at] = target.readPosition
  }

  get #wakePosition(): string {
    return this.#words.at(-1) as string
  }

  set #wakePosition(position: string) {
    this.#words[this.#words.length - 1] = position
  }
}
