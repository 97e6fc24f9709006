/**
 * The fields of an entry inside a dead letter: JSON of all names and values in turn, byte for byte. Redis and Latin-1 know
 * each byte as one character, so bytes that are no UTF-8 come out as they were.
 */

/** Names and values, which need not be UTF-8. */
export type BytePair = [name: Buffer, value: Buffer]

/** The words of an entry, as Redis answers them, in pairs. */
export function pairsOf(words: readonly Buffer[]): BytePair[] {
  const pairs: BytePair[] = []
  for (let i = 0; i + 1 < words.length; i += 2) pairs.push([words[i] as Buffer, words[i + 1] as Buffer])
  return pairs
}

export function encodeLetterFields(words: readonly Buffer[]): Buffer {
  return Buffer.from(JSON.stringify(words.map((word) => word.toString('latin1'))), 'latin1')
}

/** None where the letter was not written by this project. */
export function decodeLetterFields(json: Buffer | undefined): BytePair[] {
  try {
    const words = JSON.parse(json?.toString('latin1') ?? '[]') as unknown
    if (!Array.isArray(words)) return []
    return pairsOf(words.map((word) => Buffer.from(String(word), 'latin1')))
  } catch {
    return []
  }
}
