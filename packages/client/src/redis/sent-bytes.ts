/**
 * What was sent over a connection and may still be on its way. On a slow link a large command takes its time before it can
 * be answered, and so does every command behind it.
 */
import { bytesWritten, type RedisLike } from './duplicate.js'

/** A link slower than this (8 Mbit/s) is too slow for commands as large as a mebibyte. */
const LEAST_BYTES_PER_MS = 1024

export class SentBytes {
  readonly #redis: RedisLike
  /** Up to where what was sent has arrived, because something sent later was answered. */
  #arrived = 0

  constructor(redis: RedisLike) {
    this.#redis = redis
  }

  /** To be called when a command was handed over: how far it reaches, to be told to `answered` when it has been answered. */
  mark(): number {
    return bytesWritten(this.#redis)
  }

  /** How much longer than its deadline the answer to a command may take. */
  extraMs(mark: number): number {
    if (mark < this.#arrived) this.#arrived = 0 // another connection, which counts anew
    return Math.floor((mark - this.#arrived) / LEAST_BYTES_PER_MS)
  }

  answered(mark: number): void {
    this.#arrived = Math.max(this.#arrived, mark)
  }
}
