/** What the handlers of all processes saw, in the order in which they saw it, and what must be true of it. */

import { comparePositions } from '@redis-stream-client/handling'
import type { Redis } from 'ioredis'

export interface LogLine {
  readonly id: string
  readonly fence: number
  readonly attempt: number
  /** What was committed when the handler saw the record. */
  readonly committed: string
  /** Of the server's clock. */
  readonly atMs: number
}

export async function readLog(redis: Redis, stream: string): Promise<LogLine[]> {
  const lines = await redis.lrange(`log:${stream}`, 0, -1)
  return lines.map((line) => {
    const [id, fence, attempt, committed, atMs] = line.split(' ') as [string, string, string, string, string]
    return { id, fence: Number(fence), attempt: Number(attempt), committed, atMs: Number(atMs) }
  })
}

/**
 * What is wrong with a log, given the ids of the stream's records in order: a record skipped, or seen behind the
 * committed position, an owner that went back, more records twice after a change of owner than allowed.
 */
export function problemsOf(
  log: readonly LogLine[],
  ids: readonly string[],
  { commitEvery }: { readonly commitEvery: number },
): string[] {
  const problems: string[] = []
  const indexOf = new Map(ids.map((id, index) => [id, index]))
  let furthest = -1
  let before: { line: LogLine; index: number } | undefined
  for (const [n, line] of log.entries()) {
    const index = indexOf.get(line.id)
    if (index === undefined) problems.push(`line ${n}: ${line.id} is no record of the stream`)
    if (index === undefined) continue
    if (index > furthest + 1) problems.push(`line ${n}: record ${index} after ${furthest}: one was skipped`)
    if (comparePositions(line.id, line.committed) <= 0) {
      problems.push(`line ${n}: record ${index} was committed already`)
    }
    if (before !== undefined && before.line.fence === line.fence) {
      const isNext = index === before.index + 1
      const isRetry = index === before.index && line.attempt > before.line.attempt
      if (!isNext && !isRetry) problems.push(`line ${n}: record ${index} follows ${before.index}`)
    } else if (before !== undefined && before.index - index >= commitEvery) {
      problems.push(`line ${n}: the next owner begins at ${index}, the last had come to ${before.index}`)
    }
    furthest = Math.max(furthest, index)
    before = { line, index }
  }
  if (furthest !== ids.length - 1) problems.push(`record ${furthest} of ${ids.length} is the furthest`)
  return problems
}
