/**
 * Who is asked first to take an entry: rendezvous (highest random weight) hashing, Thaler and Ravishankar 1998.
 * Every client computes the same order from the same names, without a word to the others.
 */

/** A 32-bit hash of a text: FNV-1a, then mixed. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  }
  return mix(hash)
}

/** The living clients as one of them sees them, their names hashed once. */
export class Rendezvous {
  readonly #own: number
  readonly #others: readonly number[]

  constructor(own: string, others: readonly string[]) {
    this.#own = hashText(own)
    this.#others = others.map(hashText)
  }

  /**
   * How many of the others come before this client for that entry: 0 means it is the first choice. Who only asks
   * whether that is `enough` spares the rest of the counting: most clients are far from the first.
   */
  rankOf(entryId: string, enough: number = Number.POSITIVE_INFINITY): number {
    const entry = hashText(entryId)
    const own = weight(entry, this.#own)
    let rank = 0
    for (const other of this.#others) {
      const theirs = weight(entry, other)
      if (theirs > own || (theirs === own && other > this.#own)) rank++
      if (rank > enough) break
    }
    return rank
  }
}

function weight(entry: number, client: number): number {
  return mix(entry ^ Math.imul(client, 0x9e3779b1))
}

/** The finalizer of MurmurHash3: every bit of the input moves every bit of the output. */
function mix(value: number): number {
  let hash = value
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
