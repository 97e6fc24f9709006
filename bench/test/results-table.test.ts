import { describe, expect, it } from 'vitest'
import type { Figure } from '../src/figure.js'
import { formatLine, formatMarkdown, formatNumber, formatTable } from '../src/results-table.js'

const OURS: Figure = {
  scenario: 'handoff',
  what: 'close()',
  peer: 'ours',
  differs: '',
  unit: 'ms',
  better: 'lower',
  samples: 12,
  median: 200,
  p99: 270,
  max: 270,
  budget: { statistic: 'p99', bound: 'at most', limit: 250 },
}
const { budget: _budget, ...unbudgeted } = OURS
const PEER: Figure = {
  ...unbudgeted,
  peer: 'bare',
  differs: 'no lock',
  samples: 1,
  median: 14.12,
  p99: 14.12,
  max: 14.12,
}
const FAILED: Figure = { ...PEER, samples: 0, median: Number.NaN, failure: 'it ended with SIGKILL' }

describe('the table of results', () => {
  it('shows budget and verdict of ours, and the ratio of a peer', () => {
    const [, , ours, peer] = formatTable([OURS, PEER]).split('\n') as string[]
    expect(ours).toMatch(/^handoff\s+close\(\)\s+ours\s+200\s+270\s+ms\s+lower\s+p99 at most 250\s+NO$/)
    expect(peer).toMatch(/^handoff\s+close\(\)\s+bare\s+14\.1\s+ms\s+lower\s+0\.0706×\s+no lock$/)
  })

  it('has a row for what failed, with the reason and no value', () => {
    const row = formatTable([OURS, FAILED]).split('\n').at(-1) as string
    expect(row).toMatch(/^handoff\s+close\(\)\s+bare\s+-\s+ms\s+FAILED\s+it ended with SIGKILL$/)
  })

  it('is a Markdown table of the same cells, without the scenario', () => {
    expect(formatMarkdown([OURS, PEER])).toBe(
      [
        '| what | peer | median | p99 | unit | better is | ratio | budget | kept | the peer differs |',
        '| --- | --- | ---: | ---: | --- | --- | ---: | --- | --- | --- |',
        '| close() | ours | 200 | 270 | ms | lower |  | p99 at most 250 | NO |  |',
        '| close() | bare | 14.1 |  | ms | lower | 0.0706× |  |  | no lock |',
      ].join('\n'),
    )
  })
})

describe('the line of one figure', () => {
  it('says what was measured, or why it was not', () => {
    expect(formatLine(OURS)).toBe('handoff: close() (ours): 200 ms, p99 270, over its budget')
    expect(formatLine(PEER)).toBe('handoff: close() (bare): 14.1 ms')
    expect(formatLine(FAILED)).toBe('handoff: close() (bare): FAILED: it ended with SIGKILL')
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
