import { describe, expect, test } from 'vitest'
import { NonRetryableError } from '../src/failures.js'
import { StreamRecord } from '../src/stream-record.js'

describe('records', () => {
  const record = (...raw: string[]): StreamRecord => new StreamRecord('s', ['5-0', raw])

  test('give JSON from the field that is named, else data, else the only one', () => {
    expect(record('a', '1', 'data', '2').json()).toBe(2)
    expect(record('a', '1', 'data', '2').json('a')).toBe(1)
    expect(record('only', '{"x":1}').json<{ x: number }>().x).toBe(1)
  })

  test('say what is wrong with it', () => {
    expect(() => record('a', '1', 'b', '2').json()).toThrow(
      'record 5-0 of s: field "data" is missing, there is a, b',
    )
    expect(() => record().json('x')).toThrow('there is no field at all')
    expect(() => record('data', 'nope').json()).toThrow(/field "data" is no JSON \(.*\): nope/)
    expect(() => record('data', 'x'.repeat(100)).json()).toThrow(NonRetryableError)
  })
})
