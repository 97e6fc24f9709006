/** Reads the values of records before they go to the handler. */
import type { StreamRecord } from '@redis-stream-client/handling'

/**
 * True when all values are there, or it is known why not; false if the time is over first, or the signal aborts. Answers a
 * promise only where there is something to wait for; it does not reject.
 */
export function readValues(
  records: readonly StreamRecord[],
  timeoutMs: number,
  signal: AbortSignal,
): true | Promise<boolean> {
  const reading = records.flatMap((record) => record.readValue() ?? [])
  return reading.length === 0 || inTime(Promise.all(reading), timeoutMs, signal)
}

async function inTime(reading: Promise<unknown>, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false
  const { promise: late, resolve } = lateness()
  const timer = timeoutMs < Infinity ? setTimeout(resolve, timeoutMs) : undefined
  signal.addEventListener('abort', resolve, { once: true })
  try {
    return await Promise.race([reading.then(() => true), late])
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', resolve)
  }
}

function lateness(): { promise: Promise<false>; resolve: () => void } {
  let resolve!: () => void
  const promise = new Promise<false>((answer) => {
    resolve = () => answer(false)
  })
  return { promise, resolve }
}
