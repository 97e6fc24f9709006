import { describe, expect, it } from 'vitest'
import { type BenchLine, BenchRun } from '../src/bench-run.js'
import type { Figure } from '../src/figure.js'
import { bullmq, OURS } from '../src/peers.js'

const BUDGET = { of: 'close()', statistic: 'p99', bound: 'at most', limit: 600 } as const

function begin(): { bench: BenchRun; figures: Figure[] } {
  const figures: Figure[] = []
  const hear = (line: BenchLine): void => {
    if (line.type === 'figure') figures.push(line.figure)
  }
  return { bench: new BenchRun({ name: 'handoff', budgets: [BUDGET] }, hear), figures }
}

describe('a scenario under way', () => {
  it('tells a figure at once, with the budget that its text begins with', () => {
    const { bench, figures } = begin()
    const common = { unit: 'ms', better: 'lower' } as const
    bench.record({ what: 'close() of 1000 streams', peer: OURS, samples: [100, 300], ...common })
    expect(figures).toEqual([
      expect.objectContaining({
        scenario: 'handoff',
        p99: 300,
        budget: { statistic: 'p99', bound: 'at most', limit: 600 },
      }),
    ])
    bench.record({ what: 'close() of 1000 streams', peer: bullmq('defaults'), samples: 1, ...common })
    bench.record({ what: 'the rest', peer: OURS, samples: 1, ...common })
    expect(figures.slice(1).map(({ budget }) => budget)).toEqual([undefined, undefined])
    expect(figures[1]).toMatchObject({ peer: 'BullMQ, defaults', differs: expect.stringMatching(/no fence/) })
  })

  it('has a row for what fails, and goes on', async () => {
    const { bench, figures } = begin()
    await bench.attempt('takeover', bullmq('defaults'), () => Promise.reject(new Error('lost\nmore')))
    await bench.attempt('takeover', OURS, async () => undefined)
    expect(figures).toEqual([
      expect.objectContaining({ what: 'takeover', peer: 'BullMQ, defaults', failure: 'lost' }),
    ])
  })

  it('says of a failure what fits into a table', () => {
    const { bench, figures } = begin()
    bench.fail('takeover', OURS, new Error(`not within 60000 ms: ${'{"m0":0}'.repeat(200)}`))
    expect(figures[0]?.failure).toMatch(/^not within 60000 ms: .*\.\.\.$/)
    expect(figures[0]?.failure?.length).toBeLessThan(210)
  })

  it('has failed in a budget that nothing was measured for', () => {
    const { bench, figures } = begin()
    bench.end()
    expect(figures).toEqual([
      expect.objectContaining({ what: 'close()', peer: 'ours', failure: expect.stringMatching(/nothing/) }),
    ])
  })
})
