/** Each property is broken once by hand, and seen. */
import { describe, expect, test } from 'vitest'
import { type Evidence, findViolations } from '../src/checker.js'
import { readMonitorLine } from '../src/commit-watch.js'
import type { HistoryEvent } from '../src/history.js'
import { findStaleCommits } from '../src/jobs.js'

const STREAM = 'stream'

function owns(
  fence: number,
  fromMs: number,
  untilMs: number,
  checkpointOf: number | null = null,
): HistoryEvent[] {
  return [
    {
      type: 'given',
      at: fromMs,
      stream: STREAM,
      id: '1-1',
      fence,
      job: 1,
      isTrusted: true,
      checkpointOf,
      checkpoint: checkpointOf === null ? null : 1,
    },
    { type: 'trusted', at: untilMs, holdings: [[STREAM, fence]] },
  ]
}

function evidence(a: HistoryEvent[], b: HistoryEvent[], more: Partial<Evidence> = {}): Evidence {
  const histories = [
    { worker: 'a', events: a },
    { worker: 'b', events: b },
  ]
  return { histories, lossesAtMs: [], keepsAcknowledged: true, heartbeatTtlMs: 1000, ...more }
}

describe('the checker', () => {
  test('is content with one owner after the other', () => {
    expect(findViolations(evidence(owns(1, 0, 100), owns(2, 101, 200)))).toEqual([])
  })

  test('sees two owners at once, of whom one was stopped meanwhile', () => {
    expect(findViolations(evidence(owns(1, 0, 5000), owns(2, 2000, 2100)))).toEqual([
      { kind: 'two owners', text: expect.stringContaining('stream for 100.0 ms') },
    ])
  })

  test('excuses two owners for one TTL after Redis lost what it had answered', () => {
    const both = [owns(1, 0, 900), owns(2, 500, 1200)] as const
    expect(findViolations(evidence(...both, { lossesAtMs: [400] }))).toEqual([])
    expect(
      findViolations(evidence(owns(1, 0, 9000), owns(2, 500, 8000), { lossesAtMs: [400] })),
    ).toHaveLength(1)
  })

  test('sees fences that fall or are given twice', () => {
    for (const fence of [1, 2]) {
      expect(findViolations(evidence(owns(2, 0, 100), owns(fence, 101, 200)))).toEqual([
        expect.objectContaining({ kind: 'fence not grown' }),
      ])
    }
  })

  test('sees a fence that comes back to the worker that had it, after somebody had a greater one', () => {
    const former = [...owns(1, 0, 100), ...owns(1, 301, 400)]
    expect(findViolations(evidence(former, owns(2, 101, 200)))).toEqual([
      expect.objectContaining({ kind: 'fence not grown' }),
    ])
  })

  test('sees a commit that was accepted after one under a greater fence', () => {
    const accepted = [1, 2, 1].map((fence) => ({
      stream: STREAM,
      checkpoint: JSON.stringify({ fence, job: 7 }),
    }))
    expect(findStaleCommits(accepted)).toEqual([
      { kind: 'stale commit', text: 'a commit to stream (job 7) under 1 was accepted after 2' },
    ])
  })

  test('sees a checkpoint that is older than what was acknowledged, unless Redis lost it', () => {
    const committed = (checkpoint: number): HistoryEvent => {
      return { type: 'committed', at: 50, id: '1-1', fence: 1, checkpoint }
    }
    for (const [checkpoint, count] of [
      [1, 0],
      [2, 1],
    ] as const) {
      const first = [...owns(1, 0, 100), committed(checkpoint)]
      const second = owns(2, 101, 200, 1)
      expect(findViolations(evidence(first, second))).toHaveLength(count)
      expect(findViolations(evidence(first, second, { keepsAcknowledged: false }))).toEqual([])
    }
  })

  test('sees the checkpoint of another job, rejections nobody listens to, and growth', () => {
    const odd: HistoryEvent[] = [
      ...owns(1, 0, 10, 3),
      { type: 'unhandled', at: 1, error: 'Error: x' },
      { type: 'memory', at: 2, rssBytes: 2 ** 30 },
    ]
    const kinds = findViolations(evidence(odd, [])).map(({ kind }) => kind)
    expect(kinds.sort()).toEqual(['grown', 'unhandled', 'wrong checkpoint'])
  })
})

describe('a line of MONITOR', () => {
  test('is read with whatever bytes its words hold', () => {
    const line = String.raw`1700000000.1 [0 lua] "HSET" "faults-checkpoints" "a\"b\\" "\x00\xff\a\n"`
    expect(readMonitorLine(line)).toEqual(['HSET', 'faults-checkpoints', 'a"b\\', '\u0000\u00ff\u0007\n'])
  })
})
