import { describe, expect, it } from 'vitest'
import { StreamClientError } from '../src/index.js'
import { withJsonForm } from '../src/internal.js'

const written = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

describe('as JSON', () => {
  it('an error of this library shows code, message, facts and the chain of its causes', () => {
    const refused = Object.assign(new Error('ECONNREFUSED'), { code: 'ECONNREFUSED' })
    const cause = new Error('no connection', { cause: refused })
    const error = new StreamClientError('REDIS_ERROR', 'commit: no connection', {
      cause,
      operation: 'commit',
      limit: Number.POSITIVE_INFINITY,
    })
    expect(written(error)).toEqual({
      name: 'StreamClientError',
      code: 'REDIS_ERROR',
      message: 'commit: no connection',
      operation: 'commit',
      limit: 'Infinity',
      facts: { operation: 'commit', limit: 'Infinity' },
      cause: {
        name: 'Error',
        message: 'no connection',
        cause: { name: 'Error', code: 'ECONNREFUSED', message: 'ECONNREFUSED' },
      },
    })
  })

  it('causes that go in a circle, are no errors, or cannot be looked at end in a text', () => {
    const circle = new Error('round')
    circle.cause = circle
    const hostile = new Error('hidden')
    Object.defineProperty(hostile, 'code', {
      get: () => {
        throw new Error('not here')
      },
    })
    for (const cause of [circle, hostile, { odd: true }, 12n, Object.create(null)]) {
      const text = JSON.stringify(withJsonForm({ error: new Error('outer', { cause }) }))
      expect(text).toContain('outer')
    }
  })

  it('a payload says what JSON has no words for, and is otherwise as it was', () => {
    const error = new Error('boom')
    const payload = withJsonForm({ name: 's', error, capacity: Number.POSITIVE_INFINITY, none: null })
    expect(written(payload)).toEqual({
      name: 's',
      error: { name: 'Error', message: 'boom' },
      capacity: 'Infinity',
      none: null,
    })
    expect(payload).toEqual({ name: 's', error, capacity: Number.POSITIVE_INFINITY, none: null })
    expect(Object.keys(payload)).not.toContain('toJSON')
  })
})
