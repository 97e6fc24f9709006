import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Fifo } from '../src/fifo.js'

it('a Fifo gives back what was pushed, in order, as an array does', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 200 }), (pushes) => {
      const fifo = new Fifo<number>()
      const model: number[] = []
      pushes.forEach((isPush, index) => {
        if (isPush) {
          fifo.push(index)
          model.push(index)
        } else {
          expect(fifo.shift()).toBe(model.shift())
        }
        expect(fifo.isEmpty).toBe(model.length === 0)
      })
    }),
  )
})
