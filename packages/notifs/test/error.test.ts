import { describe, expect, it } from 'vitest'
import { ERROR_CODES, StreamClientError } from '../src/index.js'

describe('StreamClientError', () => {
  it('carries its code, message and cause', () => {
    const cause = new Error('socket closed')
    const error = new StreamClientError('REDIS_ERROR', 'XADD failed', { cause })
    expect(error).toBeInstanceOf(Error)
    expect(error).toMatchObject({ code: 'REDIS_ERROR', message: 'XADD failed', cause })
    expect(error.facts).toEqual({})
    expect(String(error)).toBe('StreamClientError: XADD failed')
    expect(error.stack).toContain('StreamClientError: XADD failed')
  })

  it('has no cause of its own when none is given', () => {
    expect(Object.hasOwn(new StreamClientError('CLOSED', 'closed'), 'cause')).toBe(false)
    expect(Object.hasOwn(new StreamClientError('CLOSED', 'closed', { cause: undefined }), 'cause')).toBe(
      false,
    )
  })

  it('shows each fact under facts and as an own field', () => {
    const error = new StreamClientError('ALREADY_CLAIMED', 'already claimed', {
      idInLbs: '1-0',
      fencingToken: 7,
      recovered: false,
      previousOwner: null,
    })
    const facts = { idInLbs: '1-0', fencingToken: 7, recovered: false, previousOwner: null }
    expect(error.facts).toEqual(facts)
    expect(Object.isFrozen(error.facts)).toBe(true)
    expect(JSON.parse(JSON.stringify(error))).toMatchObject({ code: 'ALREADY_CLAIMED', ...facts })
  })

  it('never lets a fact replace what belongs to the error', () => {
    const error = new StreamClientError('CLOSED', 'closed', {
      name: 'orders',
      message: 'another',
      code: 'another',
      stack: 'another',
      toString: 'another',
    })
    expect(error.name).toBe('StreamClientError')
    expect(error.message).toBe('closed')
    expect(error.code).toBe('CLOSED')
    expect(error.stack).not.toBe('another')
    expect(String(error)).toBe('StreamClientError: closed')
    expect(error.facts).toMatchObject({ name: 'orders', message: 'another', code: 'another' })
  })

  it('leaves out facts that are no plain values', () => {
    const error = new StreamClientError('CLOSED', 'closed', {
      kept: 1,
      list: [],
      missing: undefined,
      big: 1n,
    })
    expect(error.facts).toEqual({ kept: 1 })
    expect('list' in error).toBe(false)
  })

  it('keeps a fact named __proto__ as a fact', () => {
    const error = new StreamClientError('CLOSED', 'closed', JSON.parse('{"__proto__": "text"}'))
    expect(Object.entries(error.facts)).toEqual([['__proto__', 'text']])
    expect(error).toBeInstanceOf(StreamClientError)
  })

  it('lists each code once', () => {
    expect(new Set(ERROR_CODES).size).toBe(ERROR_CODES.length)
  })
})
