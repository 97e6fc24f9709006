/**
 * Watches that no data stream has two owners, among clients that live in this process: whoever gets a stream is
 * compared with everybody who had it before. `owned` reads the clock, so nothing is needed from Redis.
 */
import type { OwnedStream } from '@redis-stream-client/client'

export class Witness {
  /** What was seen that must not be. */
  readonly violations: string[] = []
  readonly #streams = new Map<string, { owner: string; stream: OwnedStream }[]>()
  readonly #leaving = new WeakSet<OwnedStream>()

  /** A client was given a stream. */
  begin(owner: string, stream: OwnedStream): void {
    const earlier = this.#streams.get(stream.dataStreamName) ?? []
    for (const other of earlier) {
      if (other.stream === stream) return
      const what = `${stream.dataStreamName}: ${describe(owner, stream)} after ${describe(other.owner, other.stream)}`
      if (other.stream.owned && !this.#leaving.has(other.stream))
        this.violations.push(`two owners of ${what}`)
      if (other.stream.fencingToken >= stream.fencingToken)
        this.violations.push(`fence did not grow, ${what}`)
    }
    this.#streams.set(stream.dataStreamName, [...earlier.slice(-8), { owner, stream }])
  }

  /** A stream is about to be finished or given back: the next owner may hear of it before this one gets its answer. */
  leave(stream: OwnedStream): void {
    this.#leaving.add(stream)
  }
}

function describe(owner: string, { fencingToken, idInLbs }: OwnedStream): string {
  return `${owner} (entry ${idInLbs}, fence ${fencingToken})`
}
