import { describe, expect, it } from 'vitest'
import { replaceTables } from '../src/document-tables.js'
import type { Figure } from '../src/figure.js'

const FIGURE: Figure = {
  scenario: 'handoff',
  what: 'close()',
  peer: 'ours',
  differs: '',
  unit: 'ms',
  better: 'lower',
  samples: 1,
  median: 200,
  p99: 200,
  max: 200,
}
const DOCUMENT = 'Text.\n<!-- begin table handoff -->\nold\n<!-- end table -->\nMore.\n'

describe('the tables of a document', () => {
  it('are replaced between their markers, and again', () => {
    const once = replaceTables(DOCUMENT, [FIGURE])
    expect(once).toContain('| close() | ours | 200 |')
    expect(once).not.toContain('old')
    expect(once.startsWith('Text.\n') && once.endsWith('<!-- end table -->\nMore.\n')).toBe(true)
    expect(replaceTables(once, [FIGURE])).toBe(once)
  })

  it('stay where a scenario was not run', () => {
    expect(replaceTables(DOCUMENT, [{ ...FIGURE, scenario: 'memory' }])).toBe(DOCUMENT)
  })
})
