import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { callGuarded, messageOf } from '../src/internal.js'
import { turn } from './support/outcome.js'

const problem = new Error('the disk is full')

/** An object, or whatever is given, with a property `then`. */
function withThen(then: PropertyDescriptor, target: object = {}): object {
  return Object.defineProperty(target, 'then', then) // oxlint-disable-line unicorn/no-thenable
}

const rejecting = (_: unknown, reject: (error: unknown) => void): void => reject(problem)

/** Ways in which code of an application fails without throwing where it is called. */
const failures: Record<string, () => unknown> = {
  throws: () => {
    throw problem
  },
  'is async and rejects': async () => {
    await turn()
    throw problem
  },
  'answers a thenable that rejects': () => withThen({ value: rejecting }),
  'answers a function with a then that rejects': () => withThen({ value: rejecting }, () => undefined),
  'answers a thenable whose then throws': () =>
    withThen({
      value: () => {
        throw problem
      },
    }),
  'answers a thenable whose then is async and rejects': () =>
    withThen({
      value: async () => {
        await turn()
        throw problem
      },
    }),
  'answers an object whose then is a getter that throws': () =>
    withThen({
      get: () => {
        throw problem
      },
    }),
}

describe('code of an application that', () => {
  const unhandled: unknown[] = []
  const note = (error: unknown): void => void unhandled.push(error)
  beforeEach(() => {
    unhandled.length = 0
    process.on('unhandledRejection', note)
  })
  afterEach(() => {
    process.off('unhandledRejection', note)
  })

  it.each(Object.entries(failures))('%s is reported once and harms nobody', async (_, call) => {
    const errors: unknown[] = []
    callGuarded(call, (error) => errors.push(error))
    await turn()
    await turn()
    expect(errors).toEqual([problem])
    expect(unhandled).toEqual([])
  })

  it.each(Object.entries(failures))('%s is forgotten if it was to be told of an error', async (_, call) => {
    callGuarded(() => {
      throw new Error('first')
    }, call)
    await turn()
    await turn()
    expect(unhandled).toEqual([])
  })

  it('answers something, or a promise of it, is no error', async () => {
    const errors: unknown[] = []
    const thenable = withThen({ value: (resolve: (value: unknown) => void) => resolve(1) })
    for (const value of [undefined, null, 1, {}, Promise.resolve(1), thenable]) {
      callGuarded(
        () => value,
        (error) => errors.push(error),
      )
    }
    await turn()
    expect(errors).toEqual([])
  })

  it('throws what has no text does not stop whoever wants to log it', () => {
    const hostile = new Error('hidden')
    Object.defineProperty(hostile, 'message', {
      get: () => {
        throw problem
      },
    })
    expect(messageOf(problem)).toBe('the disk is full')
    expect(messageOf('a text')).toBe('a text')
    expect(messageOf(Object.create(null))).toBe('an error that cannot be shown')
    expect(messageOf(hostile)).toBe('an error that cannot be shown')
  })
})
