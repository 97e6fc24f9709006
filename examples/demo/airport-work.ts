/**
 * One airport in the hands of its owner: how far its data stream has been read, and the delays so far.
 *
 * Position and delays are one checkpoint, committed together. Whoever takes the stream over begins at both, so a
 * flight read twice is still counted once.
 */
import type { OwnedStream } from '@redis-stream-client/client'
import { type AirportRecord, parseRecord } from './airport-stream.js'
import { addDelay, type Delays, NO_DELAYS } from './delays.js'

interface Checkpoint {
  readonly position: string
  readonly delays: Delays
}

const BEGINNING: Checkpoint = { position: '0-0', delays: NO_DELAYS }

export class AirportWork {
  readonly airport: string
  readonly stream: OwnedStream
  #now: Checkpoint
  #committed: Checkpoint
  #hasEnded = false

  constructor(airport: string, stream: OwnedStream) {
    this.airport = airport
    this.stream = stream
    this.#now = stream.checkpoint === null ? BEGINNING : (JSON.parse(stream.checkpoint) as Checkpoint)
    this.#committed = this.#now
  }

  get position(): string {
    return this.#now.position
  }

  get delays(): Delays {
    return this.#now.delays
  }

  /** True if something was read that no checkpoint holds yet. */
  get hasNews(): boolean {
    return this.#now !== this.#committed
  }

  /** True once the end of the data stream has been read. */
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Takes in the next entry of the data stream. */
  read(position: string, fields: readonly string[]): void {
    const record: AirportRecord = parseRecord(fields)
    if (record === 'end') this.#hasEnded = true
    else this.#now = { position, delays: addDelay(this.delays, record) }
  }

  /** Resolves when Redis holds what was read so far. Rejects as `OwnedStream.commit` does. */
  async commit(): Promise<void> {
    const now = this.#now
    await this.stream.commit(JSON.stringify(now))
    this.#committed = now
  }
}
