import { countKept } from '@redis-stream-client/test/support/collect-garbage'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { Fifo } from '../src/fifo.js'

const operations = fc.oneof(
  fc.constant('push' as const),
  fc.constant('shift' as const),
  fc.constant('clear' as const),
  fc.nat({ max: 6 }),
)

it('a Fifo gives back what was pushed, in order, as an array does', () => {
  fc.assert(
    fc.property(fc.array(operations, { maxLength: 200 }), (steps) => {
      const fifo = new Fifo<number>()
      const model: number[] = []
      steps.forEach((step, index) => {
        if (step === 'push') {
          fifo.push(index)
          model.push(index)
        } else if (step === 'shift') {
          expect(fifo.shift()).toBe(model.shift())
        } else if (step === 'clear') {
          fifo.clear()
          model.length = 0
        } else {
          expect(fifo.peek(step)).toEqual(model.slice(0, step))
          expect(fifo.take(step)).toEqual(model.splice(0, step))
        }
        expect(fifo.length).toBe(model.length)
        expect(fifo.first).toBe(model[0])
      })
    }),
  )
})

it('a Fifo lets go of what was taken, however much still waits', async () => {
  const fifo = new Fifo<object>()
  const references: WeakRef<object>[] = []
  for (let index = 0; index < 1000; index++) {
    const item = { index }
    references.push(new WeakRef(item))
    fifo.push(item)
  }
  for (let index = 0; index < 100; index++) fifo.shift()
  fifo.take(100)
  await expect.poll(() => countKept(references)).toBe(800)
  expect(fifo.length).toBe(800)
})
