/** Working through many items at once, without keeping timers and sockets from their turn. */
import { nextTurn } from './sleep.js'

/** Longest stretch of work without letting the event loop go on. */
const SLICE_MS = 5

/** Does something with each item, a few milliseconds at a time. */
export async function inSlices<T>(items: readonly T[], act: (item: T) => void): Promise<void> {
  let sliceEndsMs = performance.now() + SLICE_MS
  for (const item of items) {
    if (performance.now() >= sliceEndsMs) {
      await nextTurn()
      sliceEndsMs = performance.now() + SLICE_MS
    }
    act(item)
  }
}
