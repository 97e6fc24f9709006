import { describe, expect, it, vi } from 'vitest'
import { SafeEmitter } from '../src/internal.js'
import { turn } from './support/outcome.js'

interface Events {
  tick: [count: number, text: string]
  tock: []
}

function emitterWithErrors(): { emitter: SafeEmitter<Events>; errors: [unknown, string][] } {
  const errors: [unknown, string][] = []
  const emitter = new SafeEmitter<Events>({ onListenerError: (error, event) => errors.push([error, event]) })
  return { emitter, errors }
}

describe('SafeEmitter', () => {
  it('calls every listener in order, with all arguments, and says whether there were any', () => {
    const { emitter } = emitterWithErrors()
    const heard: unknown[] = []
    expect(emitter.emit('tick', 1, 'a')).toBe(false)
    emitter.on('tick', (...args) => heard.push(['first', ...args]))
    expect(emitter.emit('tick', 1, 'a')).toBe(true)
    emitter.on('tick', (...args) => heard.push(['second', ...args]))
    expect(emitter.emit('tick', 2, 'b')).toBe(true)
    expect(heard).toEqual([
      ['first', 1, 'a'],
      ['first', 2, 'b'],
      ['second', 2, 'b'],
    ])
  })

  it('calls the others when a listener throws, and reports the error', () => {
    const { emitter, errors } = emitterWithErrors()
    const heard = vi.fn()
    const error = new Error('broken listener')
    emitter.on('tick', () => {
      throw error
    })
    emitter.on('tick', heard)
    expect(emitter.emit('tick', 1, 'a')).toBe(true)
    expect(heard).toHaveBeenCalledOnce()
    expect(errors).toEqual([[error, 'tick']])
  })

  it('reports a listener whose promise rejects, and none whose promise resolves', async () => {
    const { emitter, errors } = emitterWithErrors()
    const error = new Error('rejected')
    emitter.on('tock', (() => Promise.reject(error)) as () => void)
    emitter.on('tock', (() => Promise.resolve()) as () => void)
    emitter.emit('tock')
    await turn()
    expect(errors).toEqual([[error, 'tock']])
  })

  it('drops the error when nobody asked for it', () => {
    const emitter = new SafeEmitter<Events>()
    emitter.on('tock', () => {
      throw new Error('broken listener')
    })
    expect(emitter.emit('tock')).toBe(true)
  })

  it('survives an error handler that throws or rejects', async () => {
    for (const handler of [
      () => {
        throw new Error('broken handler')
      },
      (() => Promise.reject(new Error('broken handler'))) as () => void,
    ]) {
      const emitter = new SafeEmitter<Events>({ onListenerError: handler })
      const heard = vi.fn()
      emitter.on('tock', () => {
        throw new Error('broken listener')
      })
      emitter.on('tock', heard)
      emitter.emit('tock')
      await turn()
      expect(heard).toHaveBeenCalledOnce()
    }
  })

  it('lets a subclass decide what becomes of a listener error', () => {
    const seen: unknown[] = []
    class Reporting extends SafeEmitter<Events> {
      protected override listenerFailed(error: unknown, event: string): void {
        seen.push(error, event)
      }
    }
    const emitter = new Reporting()
    emitter.on('tock', () => {
      throw 'text' // oxlint-disable-line typescript/only-throw-error
    })
    emitter.emit('tock')
    expect(seen).toEqual(['text', 'tock'])
  })

  it('calls a listener added with once a single time, even if it throws', () => {
    const { emitter, errors } = emitterWithErrors()
    const once = vi.fn(() => {
      throw new Error('broken listener')
    })
    const always = vi.fn()
    emitter.once('tock', once)
    emitter.on('tock', always)
    emitter.emit('tock')
    emitter.emit('tock')
    expect(once).toHaveBeenCalledOnce()
    expect(always).toHaveBeenCalledTimes(2)
    expect(errors).toHaveLength(1)
    expect(emitter.listenerCount('tock')).toBe(1)
  })

  it('keeps a listener that is registered both for once and for all', () => {
    const { emitter } = emitterWithErrors()
    const listener = vi.fn()
    emitter.on('tock', listener)
    emitter.once('tock', listener)
    emitter.emit('tock')
    emitter.emit('tock')
    expect(listener).toHaveBeenCalledTimes(3)
  })

  it('calls each listener with the context it was added with, else with the emitter', () => {
    const { emitter } = emitterWithErrors()
    const contexts: unknown[] = []
    const context = {}
    function listener(this: unknown): void {
      contexts.push(this)
    }
    emitter.on('tock', listener, context)
    emitter.on('tock', listener)
    emitter.emit('tock')
    expect(contexts[0]).toBe(context)
    expect(contexts[1]).toBe(emitter)
  })

  it('lets a listener added while an event is emitted hear the next one only', () => {
    const { emitter } = emitterWithErrors()
    const late = vi.fn()
    emitter.on('tock', () => {})
    emitter.once('tock', () => emitter.on('tock', late))
    emitter.emit('tock')
    expect(late).not.toHaveBeenCalled()
    emitter.emit('tock')
    expect(late).toHaveBeenCalledOnce()
  })

  it('does not throw for an error event that nobody listens to', () => {
    expect(new SafeEmitter().emit('error', new Error('unheard'))).toBe(false)
  })
})
