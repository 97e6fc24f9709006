import { describe, expect, it } from 'vitest'
import type { Figure } from '../src/figure.js'
import { formatMarkdown, formatNumber, formatTable } from '../src/results-table.js'

const OURS: Figure = {
  scenario: 'handoff',
  what: 'close()',
  peer: 'ours',
  unit: 'ms',
  samples: 12,
  median: 200,
  p99: 270,
  max: 270,
  budget: { statistic: 'p99', bound: 'at most', limit: 250 },
}
const { budget: _budget, ...unbudgeted } = OURS
const PEER: Figure = { ...unbudgeted, peer: 'bare', samples: 1, median: 14.12, p99: 14.12, max: 14.12 }

describe('the table of results', () => {
  it('shows budget and verdict of ours, and the ratio of a peer', () => {
    const [, , ours, peer] = formatTable([OURS, PEER]).split('\n') as string[]
    expect(ours).toMatch(/^handoff\s+close\(\)\s+ours\s+200\s+270\s+ms\s+p99 at most 250\s+NO$/)
    expect(peer).toMatch(/^handoff\s+close\(\)\s+bare\s+14\.1\s+ms\s+0\.0706×$/)
  })

  it('is a Markdown table of the same cells, without the scenario', () => {
    expect(formatMarkdown([OURS, PEER])).toBe(
      [
        '| what | peer | median | p99 | unit | ratio | budget | kept |',
        '| --- | --- | ---: | ---: | --- | ---: | --- | --- |',
        '| close() | ours | 200 | 270 | ms |  | p99 at most 250 | NO |',
        '| close() | bare | 14.1 |  | ms | 0.0706× |  |  |',
      ].join('\n'),
    )
  })
})

describe('a number', () => {
  it.each([
    [0, '0'],
    [0.012345, '0.0123'],
    [1.2345, '1.23'],
    [999.6, '1,000'],
    [54_321, '54,321'],
    [-415.2, '-415'],
    [Number.NaN, '-'],
  ])('%d is written %s', (value, text) => {
    expect(formatNumber(value)).toBe(text)
  })
})
