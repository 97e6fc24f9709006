import type { RawRecord } from '@redis-stream-client/handling'
import { describe, expect, test } from 'vitest'
import { NamedStreams, type ReadTarget } from '../src/reading/named-streams.js'

class Target implements ReadTarget {
  readonly name: string
  readonly isHungry = true
  readonly isEmpty = true
  readPosition = '0-0'

  constructor(name: string) {
    this.name = name
  }

  accept(_after: string, records: readonly RawRecord[]): void {
    this.readPosition = records.at(-1)?.[0].toString() ?? this.readPosition
  }
}

/** The position after which a read goes on in each stream it names. */
function positionsOf(named: NamedStreams): Record<string, string> {
  const words = named.words(10, 2000)
  const names = words.slice(words.indexOf('STREAMS') + 1)
  const half = names.length / 2
  return Object.fromEntries(names.slice(0, half).map((name, i) => [name, names[half + i] as string]))
}

describe('the streams a read names', () => {
  const isReadFor = (): boolean => true

  test('go on behind what was read, the wake stream too: an entry that has ended one read does not end the next', () => {
    const target = new Target('s')
    const named = new NamedStreams([target, new Target('t')], 'wake', null)
    expect(positionsOf(named)).toEqual({ s: '0-0', t: '0-0', wake: '0-0' })
    const both = [
      [
        Buffer.from('s'),
        [
          ['4-0', ['a', 'b']],
          ['5-0', ['a', 'b']],
        ] as RawRecord[],
      ],
      [Buffer.from('wake'), [['6-0', ['wake', '']]] as RawRecord[]],
    ] as [Buffer, RawRecord[]][]
    expect(named.deliver(both, isReadFor)).toBe(true)
    expect(positionsOf(named)).toEqual({ s: '5-0', t: '0-0', wake: '6-0' })
    named.deliver([[Buffer.from('wake'), [['7-0', ['wake', '']]]]], isReadFor)
    expect(positionsOf(named)).toMatchObject({ s: '5-0', wake: '7-0' })
    named.deliver(null, isReadFor)
    expect(positionsOf(named)).toMatchObject({ s: '5-0', wake: '7-0' })
  })

  test('are named anew with the wake stream where it was', () => {
    const before = new NamedStreams([new Target('s')], 'wake', null)
    before.deliver([[Buffer.from('wake'), [['6-0', ['wake', '']]]]], isReadFor)
    const after = new NamedStreams([new Target('t')], 'wake', before)
    expect(positionsOf(after)).toEqual({ t: '0-0', wake: '6-0' })
  })
})
