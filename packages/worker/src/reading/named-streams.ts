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

/** COUNT n BLOCK ms STREAMS, or COUNT n STREAMS; then the keys, then the position of each. */
const BLOCKING = ['COUNT', '', 'BLOCK', '', 'STREAMS'] as const
const PASSING = ['COUNT', '', 'STREAMS'] as const

export class NamedStreams {
  readonly targets: readonly ReadTarget[]
  readonly #wakeKey: string
  readonly #indexOf: ReadonlyMap<string, number>
  readonly #words: string[]
  readonly #firstKey: number
  readonly #isBlocking: boolean

  /** The wake stream comes last; it is read on where `before` was. */
  constructor(
    targets: readonly ReadTarget[],
    wakeKey: string,
    before: NamedStreams | null,
    { isBlocking }: { readonly isBlocking: boolean } = { isBlocking: true },
  ) {
    this.targets = targets
    this.#wakeKey = wakeKey
    this.#isBlocking = isBlocking
    this.#indexOf = new Map(targets.map(({ name }, index) => [name, index]))
    const start = isBlocking ? BLOCKING : PASSING
    this.#firstKey = start.length
    this.#words = [
      ...start,
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

  /** The words after XREAD. `blockMs` only says something where the read blocks. */
  words(count: number, blockMs: number): string[] {
    this.#words[1] = String(count)
    if (this.#isBlocking) this.#words[3] = String(blockMs)
    return this.#words
  }

  /** Hands out what was read to those that are still read for. True if all of them are to be named again. */
  deliver(reply: ReadReply, isReadFor: (target: ReadTarget) => boolean): boolean {
    let isUnchanged = true
    for (const [keyBytes, records] of reply ?? []) {
      const key = keyBytes.toString()
      const target = this.targetOf(key)
      if (key === this.#wakeKey) {
        this.#wakePosition = records.at(-1)?.[0].toString() ?? this.#wakePosition
      } else if (target !== undefined) {
        if (isReadFor(target)) this.#deliver(target, records)
        isUnchanged &&= isReadFor(target) && target.isHungry
      }
    }
    return isUnchanged
  }

  /** The stream of this name, if it is named. */
  targetOf(name: string): ReadTarget | undefined {
    const index = this.#indexOf.get(name)
    return index === undefined ? undefined : this.targets[index]
  }

  #deliver(target: ReadTarget, records: readonly RawRecord[]): void {
    const at = this.#firstKey + this.targets.length + 1 + (this.#indexOf.get(target.name) as number)
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
