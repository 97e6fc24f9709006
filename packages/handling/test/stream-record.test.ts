import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { NonRetryableError } from '../src/failures.js'
import { RecordFormatError, StreamRecord } from '../src/stream-record.js'

const record = (...words: (string | Buffer)[]): StreamRecord => new StreamRecord('s', ['5-0', words])

describe('records', () => {
  test('give JSON from the field that is named, else data, else the only one', () => {
    expect(record('a', '1', 'data', '2').json()).toBe(2)
    expect(record('a', '1', 'data', '2').json('a')).toBe(1)
    expect(record('only', '{"x":1}').json<{ x: number }>().x).toBe(1)
    expect(record('only', '1', 'only', '2').json()).toBe(2)
  })

  test('say what is wrong with it', () => {
    expect(() => record('a', '1', 'b', '2').json()).toThrow(
      'record 5-0 of s: field "data" is missing, there is a, b',
    )
    expect(() => record().json('x')).toThrow('there is no field at all')
    expect(() => record('data', 'nope').json()).toThrow(/field "data" is no JSON \(.*\): nope/)
    expect(() => record('data', 'x'.repeat(100)).json()).toThrow(NonRetryableError)
  })

  test('give every byte as it was received, and keep nothing else of what was', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.uint8Array(), fc.uint8Array())), (pairs) => {
        const words = pairs.flat().map((word) => Buffer.from(word))
        const received = Buffer.concat(words)
        let end = 0
        const slices = words.map((word) => {
          end += word.length
          return received.subarray(end - word.length, end)
        })
        const seen = new StreamRecord('s', [Buffer.from('5-0'), slices])
        received.fill(0)
        expect(seen.rawBytes).toEqual(words)
        expect(seen.raw).toEqual(words.map((word) => word.toString()))
        expect(seen.id).toBe('5-0')
      }),
    )
  })

  test('give a field as bytes, and as text where it is text', () => {
    const hostile = Buffer.from('089601fffe0080', 'hex')
    const both = record('text', 'größer \ufeff', 'bytes', hostile, 'twice', 'a', 'twice', 'b')
    expect(both.bytes('bytes')).toEqual(hostile)
    expect(both.bytes('twice').toString()).toBe('b')
    expect(both.text('text')).toBe('größer \ufeff')
    expect(both.fields['bytes']).toContain('\ufffd')
    expect(() => both.text('bytes')).toThrow('field "bytes" is no UTF-8: read it with bytes()')
    expect(() => both.json('bytes')).toThrow(RecordFormatError)
    expect(() => both.bytes('none')).toThrow('field "none" is missing, there is text, bytes, twice')
    expect(record('only', hostile).bytes()).toEqual(hostile)
  })
})
