import { describe, expect, it } from 'vitest'
import type { Lbs } from '../src/redis/lbs.js'
import { Retries } from '../src/session/retries.js'
import type { Session } from '../src/session/session.js'
import { silentLogger } from './support/silent-logger.js'

const session = { isHeld: () => true, signal: new AbortController().signal } as Session

describe('what a session sends', () => {
  it.each([new TypeError('x is not a function'), new RangeError('Invalid array length'), 'no error at all'])(
    'is not sent again after a mistake of this library, which is told as it is: %s',
    async (mistake) => {
      let tries = 0
      const retries = new Retries({} as Lbs, silentLogger)
      const sent = retries.send('take streams', session, () => {
        tries++
        return Promise.reject(mistake)
      })
      await expect(sent).rejects.toBe(mistake)
      expect(tries).toBe(1)
    },
  )
})
