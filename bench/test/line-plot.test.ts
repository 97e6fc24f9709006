import { describe, expect, it } from 'vitest'
import { flatnessOf } from '../src/flatness.js'
import { drawLinePlot } from '../src/line-plot.js'

const PLOT = { title: 'A < B & C', xLabel: 'x', yLabel: 'y' }

describe('a line plot', () => {
  it('puts whole powers of ten at the edges', () => {
    const points = [
      [1, 10],
      [100, 1000],
    ] as const
    const svg = drawLinePlot({ ...PLOT, series: [{ name: 'ours', points }] })
    expect(svg).toContain('<polyline points="72,344 684,48"')
  })

  it('leaves out what has no logarithm', () => {
    const points = [
      [0, 5],
      [1, 1],
      [10, 0],
      [10, 10],
    ] as const
    const svg = drawLinePlot({ ...PLOT, series: [{ name: 'ours', points }] })
    expect(svg.match(/<circle/g)).toHaveLength(2)
  })

  it('escapes texts', () => {
    const svg = drawLinePlot({ ...PLOT, series: [{ name: '"<"', points: [[1, 1]] }] })
    expect(svg).toContain('A &lt; B &amp; C')
    expect(svg).toContain('&quot;&lt;&quot;')
  })
})

describe('flatness', () => {
  it('forgives the time of warming up', () => {
    expect(flatnessOf([1, 5, 9, 10, 10, 10, 10, 10, 10], 0)).toEqual({
      earlyMean: 10,
      lateMean: 10,
      isFlat: true,
    })
  })

  it('sees what goes on growing', () => {
    expect(flatnessOf([1, 2, 3, 4, 5, 6, 7, 8, 9], 2).isFlat).toBe(false)
  })

  it('allows the slack', () => {
    expect(flatnessOf([1, 2, 3, 4, 5, 6, 7, 8, 9], 3).isFlat).toBe(true)
  })
})
