/**
 * How large the records of each stream are expected to be, and which streams may have more of them. Redis counts records;
 * what has to be bounded is their bytes, which nobody knows before they are here. So a stream is expected to go on with
 * records as large as the largest seen lately, and one that was never read with records as large as those of the others.
 */
import type { RawRecord } from '@redis-stream-client/handling'
import type { ReadTarget } from './named-streams.js'

/** What a record of any stream is expected to have before the first one was seen. */
const FIRST_GUESS_BYTES = 256 * 1024
/** What a record takes beside its words. */
const OVERHEAD_BYTES = 64

export class RecordSizes {
  readonly #greatestBytes: number
  readonly #expected = new Map<ReadTarget, number>()
  /** Streams that may have records that were not read, in the order in which they are to be read. */
  readonly #backlog = new Set<ReadTarget>()
  #guessBytes = FIRST_GUESS_BYTES

  /** Nothing is expected to be larger than `greatestBytes`: such a record is read alone. */
  constructor(greatestBytes: number) {
    this.#greatestBytes = greatestBytes
  }

  /** Nothing is known about the end of this stream: it was added, or not read for a while. */
  add(target: ReadTarget): void {
    this.#backlog.add(target)
  }

  remove(target: ReadTarget): void {
    this.#backlog.delete(target)
    this.#expected.delete(target)
  }

  /** Those that may have records that were not read, the one that was read longest ago first. */
  get backlog(): ReadonlySet<ReadTarget> {
    return this.#backlog
  }

  expectedBytes(target: ReadTarget): number {
    return Math.min(this.#expected.get(target) ?? this.#guessBytes, this.#greatestBytes)
  }

  /** What one record of each of them is expected to have. */
  totalBytes(targets: readonly ReadTarget[]): number {
    return targets.reduce((sum, target) => sum + this.expectedBytes(target), 0)
  }

  /** A read was answered, whatever it has brought: the next one may be bolder. */
  hearAnswer(): void {
    this.#guessBytes = Math.max(OVERHEAD_BYTES, this.#guessBytes / 2)
  }

  /** A read that asked for `count` records of the stream has brought these; fewer than that are all there are. */
  hear(target: ReadTarget, records: readonly RawRecord[], count: number): void {
    this.#backlog.delete(target)
    if (records.length >= count) this.#backlog.add(target) // behind the others
    const largest = records.reduce((most, record) => Math.max(most, bytesOf(record)), 0)
    this.#expected.set(target, Math.max(largest, this.expectedBytes(target) / 2))
    this.#guessBytes = Math.max(largest, this.#guessBytes)
  }

  /** A read has brought nothing of this stream. */
  hearNothing(target: ReadTarget): void {
    this.#backlog.delete(target)
  }

  /** A read came to nothing: half as much is asked for the next time. */
  fail(targets: readonly ReadTarget[]): void {
    for (const target of targets) {
      this.#expected.set(target, 2 * this.expectedBytes(target))
      this.#backlog.add(target)
    }
  }

  /** A read has brought far more than was expected: the next ones ask for one record of one stream. */
  failLarge(targets: readonly ReadTarget[]): void {
    this.#guessBytes = this.#greatestBytes
    for (const target of targets) {
      this.#expected.set(target, this.#greatestBytes)
      this.#backlog.add(target)
    }
  }
}

function bytesOf([, fields]: RawRecord): number {
  return fields.reduce((sum, word) => sum + word.length, OVERHEAD_BYTES)
}
