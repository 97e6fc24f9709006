/** Looking for what is kept in memory: runs the collector where a test wants it to. */
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/**
 * How many of the objects are still in memory after everything that nobody holds has been collected. To be polled: the
 * engine itself may hold an object for a moment, while it compiles code that has just used it.
 */
export async function countKept(references: readonly WeakRef<object>[]): Promise<number> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  await turn() // until then a WeakRef that was made or read holds its object
  collect()
  return references.filter((reference) => reference.deref() !== undefined).length
}
