/** Each property of records is broken once by hand, and seen. */
import { describe, expect, test } from 'vitest'
import type { Handling, HandlingStep } from '../src/handlings.js'
import { findFallenPositions, findRecordViolations, type StreamEvidence } from '../src/record-checker.js'
import { COMMIT_EVERY } from '../src/record-rules.js'

/** One owner handles records one after the other: `begun`, then `handled`. */
function handles(fence: number, first: number, last: number): Handling[] {
  const numbers = Array.from({ length: last - first + 1 }, (_, index) => first + index)
  return numbers.flatMap((n) => [step(fence, n, 'begun'), step(fence, n, 'handled')])
}

function step(fence: number, n: number, what: HandlingStep, attempt = 1): Handling {
  return { step: what, fence, n, attempt, worker: `worker-${fence}` }
}

function kindsOf(handlings: readonly Handling[], more: Partial<StreamEvidence> = {}, keeps = true): string[] {
  const evidence = { name: 'plain-1', added: 10, effects: null, dead: null, handlings, ...more }
  return findRecordViolations(evidence, keeps).map(({ kind }) => kind)
}

describe('the checker of records', () => {
  test('is content with owners that go on where the last one has committed', () => {
    expect(kindsOf([...handles(1, 1, 5), ...handles(2, 6, 10)])).toEqual([])
    expect(kindsOf([...handles(1, 1, 8), step(1, 9, 'begun'), ...handles(2, 9, 10)])).toEqual([])
  })

  test('allows the same record again only after its attempt has failed', () => {
    const begun = step(1, 1, 'begun')
    expect(kindsOf([begun, step(1, 1, 'failed'), ...handles(1, 1, 2)])).toEqual([])
    expect(kindsOf([...handles(1, 1, 1), ...handles(1, 1, 2)])).toEqual(['disorder'])
    expect(kindsOf([begun, step(1, 1, 'failed'), ...handles(1, 2, 2)])).toEqual(['disorder'])
  })

  test('sees a record that comes too early, and one that ends while another is in hand', () => {
    expect(kindsOf([...handles(1, 1, 2), ...handles(1, 4, 4)])).toEqual(['disorder'])
    expect(kindsOf([...handles(1, 1, 1), step(1, 2, 'handled')])).toEqual(['disorder'])
  })

  test('sees an owner that begins behind a record nobody has handled', () => {
    const both = [...handles(1, 1, 2), step(1, 3, 'begun'), ...handles(2, 4, 5)]
    expect(kindsOf(both)).toEqual(['passed over'])
  })

  test('knows that a worker may be killed between its transaction and telling so', () => {
    const killed = [...handles(1, 1, 2), step(1, 3, 'begun'), ...handles(2, 4, 5)]
    const stream = { name: 'effects-2', added: 5 }
    expect(kindsOf(killed, { ...stream, effects: [1, 2, 3, 4, 5] })).toEqual([])
    expect(kindsOf(killed, { ...stream, effects: [1, 2, 4, 5] })).toEqual(['effects not once'])
    expect(kindsOf([...handles(1, 1, 2), ...handles(2, 4, 5)], stream)).toEqual(['passed over'])
  })

  test('takes what a former owner tells late for what it is', () => {
    const late = [...handles(1, 1, 2), step(1, 3, 'begun'), ...handles(2, 3, 4), step(1, 3, 'handled')]
    expect(kindsOf(late)).toEqual([])
  })

  test('sees more records again than may be uncommitted', () => {
    const again = (count: number): Handling[] => [...handles(1, 1, 10), ...handles(2, 11 - count, 10)]
    expect(kindsOf(again(COMMIT_EVERY))).toEqual([])
    expect(kindsOf(again(COMMIT_EVERY + 1))).toEqual(['repeated'])
  })

  test('sees a single record again that was handled in a transaction', () => {
    const again = [...handles(1, 1, 5), ...handles(2, 5, 6)]
    expect(kindsOf(again, { name: 'effects-2' })).toEqual(['repeated'])
  })

  test.each([
    ['twice', [1, 2, 2, 3]],
    ['missing', [1, 3]],
    ['missing at the end', [1, 2]],
    ['in another order', [1, 3, 2]],
  ])('sees an effect that is %s', (_how, effects) => {
    const evidence = { name: 'effects-2', added: 3 }
    expect(kindsOf(handles(1, 1, 3), { ...evidence, effects: [1, 2, 3] })).toEqual([])
    expect(kindsOf(handles(1, 1, 3), { ...evidence, effects })).toEqual(['effects not once'])
  })

  test('sees a dead letter that is missing, twice, or of a record that was handled', () => {
    const doomed = [...handles(1, 1, 22), step(1, 23, 'begun'), step(1, 23, 'doomed')]
    expect(kindsOf(doomed, { added: 23, dead: [23] })).toEqual([])
    for (const dead of [[], [23, 23], [7, 23]]) {
      expect(kindsOf(doomed, { added: 23, dead })).toEqual(['dead letters not once'])
    }
  })

  test('asks only for order where Redis has lost what it had answered', () => {
    expect(kindsOf([...handles(1, 1, 10), ...handles(2, 1, 10)], {}, false)).toEqual([])
    expect(kindsOf([...handles(1, 1, 1), ...handles(1, 4, 5)], {}, false)).toEqual([])
    expect(kindsOf([...handles(1, 4, 5), ...handles(1, 3, 3)], {}, false)).toEqual(['disorder'])
  })

  test('sees a position that goes back, also where ids differ in their length', () => {
    const accepted = (...ids: (string | null)[]) =>
      ids.map((id) => ({ stream: 's', checkpoint: id === null ? null : JSON.stringify({ id }) }))
    expect(findFallenPositions(accepted('5-0', '5-0', '5-9', '5-10', '10-0'))).toEqual([])
    expect(findFallenPositions(accepted('10-0', null, '0-0'))).toEqual([])
    expect(findFallenPositions(accepted('10-0', '9-0'))).toEqual([
      { kind: 'position back', text: 's: 9-0 after 10-0' },
    ])
  })
})
