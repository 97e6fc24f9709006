/** How much one command carries: a limited number of items, and a limited number of bytes. */

/**
 * Enough for fifty streams with ordinary names and checkpoints. A link that needs longer for it than a command's
 * deadline is too slow for the heartbeats as well.
 */
export const BATCH_BYTES: number = 256 * 1024

/**
 * How many of the first items one command may carry: at most `limit`, and at most BATCH_BYTES together, but at least
 * one unless there is none.
 */
export function batchLength<T>(items: readonly T[], limit: number, bytesOf: (item: T) => number): number {
  let bytes = 0
  for (const [index, item] of items.entries()) {
    bytes += bytesOf(item)
    if (index === limit || (bytes > BATCH_BYTES && index > 0)) return index
  }
  return items.length
}

/** Cuts items into batches, in their order. */
export function* batchesOf<T>(
  items: readonly T[],
  limit: number,
  bytesOf: (item: T) => number,
): Generator<readonly T[], void> {
  for (let start = 0; start < items.length; ) {
    const window = items.slice(start, start + limit)
    const length = batchLength(window, limit, bytesOf)
    yield window.slice(0, length)
    start += length
  }
}
