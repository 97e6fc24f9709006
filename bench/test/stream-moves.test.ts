/** What is read from what members tell of their streams. */
import { describe, expect, it } from 'vitest'
import type { StreamEvent } from '../src/host-protocol.js'
import { evenSince, movesSince, sizesOf } from '../src/stream-moves.js'

function taken(atMs: number, member: string, stream: string): StreamEvent {
  return { kind: 'taken', member, stream, atMs }
}

function left(atMs: number, member: string, stream: string): StreamEvent {
  return { kind: 'left', member, stream, atMs }
}

describe('the moves of streams', () => {
  const events = [
    taken(1, 'a', 's'),
    taken(2, 'a', 't'),
    taken(30, 'b', 's'), // told before what happened earlier in another process
    left(20, 'a', 's'),
    left(40, 'b', 's'),
    taken(45, 'a', 's'),
    taken(60, 'c', 't'), // its owner was killed and could not say that it had left
  ]

  it('are counted from one owner to the next, in the order in which they happened', () => {
    const moves = movesSince(events, 10)
    expect(moves.total).toBe(3)
    expect([...moves.ofEach]).toEqual([
      ['s', 2],
      ['t', 1],
    ])
    expect(moves.ownerlessMs).toEqual([10, 5])
    expect(moves.lastAtMs).toBe(60)
  })

  it('count only from the given moment on, and not when a member has its own stream again', () => {
    expect(movesSince(events, 31).total).toBe(2)
    expect(movesSince([taken(1, 'a', 's'), left(2, 'a', 's'), taken(3, 'a', 's')], 0).total).toBe(0)
    expect(movesSince([taken(1, 'a', 's')], 0).lastAtMs).toBeNaN()
  })

  it('leave each stream with its last owner', () => {
    expect(sizesOf(events, ['a', 'b', 'c', 'd'])).toEqual([1, 0, 1, 0])
  })
})

describe('the moment from which shares are even', () => {
  it('is the one after which nobody had too much any more', () => {
    const events = [taken(1, 'a', 's'), taken(2, 'a', 't'), taken(5, 'b', 's'), left(4, 'a', 's')]
    expect(evenSince(events, ['a', 'b'], 1.1)).toBe(5)
    expect(evenSince([...events, taken(6, 'a', 'u'), taken(9, 'b', 'v')], ['a', 'b'], 1.1)).toBe(9)
  })

  it('has not come while somebody has too much', () => {
    expect(evenSince([taken(1, 'a', 's')], ['a', 'b'], 1.1)).toBeNaN()
  })
})
