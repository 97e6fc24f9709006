import { EventEmitter } from 'eventemitter3'
import { describe, expect, it, vi } from 'vitest'
import { type Notification, NotificationBroker, StreamClientError } from '../src/index.js'
import { retract, roomAvailable } from '../src/internal.js'
import { added, disowned, expired, streamOf, terminated } from './support/notifications.js'
import { follow, turn } from './support/outcome.js'

const DONE = { done: true, value: undefined }

const given = (value: Notification): IteratorResult<Notification> => ({ done: false, value })

/** Everything the broker delivers until it ends. */
async function readAll(broker: NotificationBroker): Promise<Notification[]> {
  const all: Notification[] = []
  for await (const notification of broker) all.push(notification)
  return all
}

describe('sending', () => {
  it('delivers in the order of the calls, also to a reader that was there first', async () => {
    const broker = new NotificationBroker()
    const reading = readAll(broker)
    const sent = [added('a'), expired('b'), disowned('c')]
    await Promise.all(sent.map((notification) => broker.send(notification)))
    broker.close(terminated())
    expect(await reading).toEqual([...sent, terminated()])
  })

  it('waits beyond the capacity and goes on in order when there is room', async () => {
    const broker = new NotificationBroker({ capacity: 2 })
    const sends = ['a', 'b', 'c', 'd'].map((name) => follow(broker.send(expired(name))))
    await turn()
    expect(sends.map(({ state }) => state)).toEqual(['resolved', 'resolved', 'pending', 'pending'])
    expect(broker.room).toBe(0)
    const iterator = broker[Symbol.asyncIterator]()
    expect(await iterator.next()).toEqual(given(expired('a')))
    await turn()
    expect(sends.map(({ value }) => value)).toEqual([true, true, true, undefined])
    expect(broker.room).toBe(0)
    expect(await iterator.next()).toEqual(given(expired('b')))
    expect(await iterator.next()).toEqual(given(expired('c')))
    expect(await iterator.next()).toEqual(given(expired('d')))
    expect(broker.room).toBe(2)
  })

  it('holds 500 notifications by default', () => {
    expect(new NotificationBroker().room).toBe(500)
    expect(new NotificationBroker({ capacity: undefined }).room).toBe(500)
  })

  it('counts nothing that a waiting reader takes at once', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const iterator = broker[Symbol.asyncIterator]()
    const reads = [iterator.next(), iterator.next()]
    expect(await broker.send(expired('a'))).toBe(true)
    expect(broker.room).toBe(1)
    expect(await broker.send(expired('b'))).toBe(true)
    expect(await Promise.all(reads)).toEqual([given(expired('a')), given(expired('b'))])
  })

  it('takes a StreamDisowned at once, in its place and without counting it', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    expect(await broker.send(disowned('first'))).toBe(true)
    expect(broker.room).toBe(1)
    expect(await broker.send(expired('a'))).toBe(true)
    const waiting = follow(broker.send(expired('b')))
    const stays = [disowned('x'), disowned('y')].map((notification) => follow(broker.send(notification)))
    const last = follow(broker.send(expired('c')))
    await turn()
    expect(stays.map(({ value }) => value)).toEqual([true, true])
    expect([waiting.state, last.state]).toEqual(['pending', 'pending'])
    const iterator = broker[Symbol.asyncIterator]()
    const names: (string | undefined)[] = []
    for (let count = 0; count < 6; count += 1) {
      const { value } = await iterator.next()
      if (value !== undefined && 'payload' in value) names.push(value.payload.dataStreamName)
    }
    expect(names).toEqual(['first', 'a', 'b', 'x', 'y', 'c'])
    await turn()
    expect([waiting.value, last.value]).toEqual([true, true])
  })

  it('resolves false and delivers nothing when the signal is aborted before the call', async () => {
    const broker = new NotificationBroker()
    expect(await broker.send(expired('a'), { signal: AbortSignal.abort() })).toBe(false)
    expect(await broker.send(disowned('a'), { signal: AbortSignal.abort() })).toBe(false)
    broker.close()
    expect(await readAll(broker)).toEqual([])
  })

  it('resolves false and delivers nothing when the signal aborts while it waits', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const controller = new AbortController()
    const { signal } = controller
    await broker.send(expired('a'), { signal })
    const aborted = [
      follow(broker.send(expired('b'), { signal })),
      follow(broker.send(expired('c'), { signal })),
    ]
    const kept = follow(broker.send(expired('d'), { signal: new AbortController().signal }))
    controller.abort()
    await turn()
    expect(aborted.map(({ value }) => value)).toEqual([false, false])
    expect(kept.state).toBe('pending')
    const iterator = broker[Symbol.asyncIterator]()
    expect(await iterator.next()).toEqual(given(expired('a')))
    expect(await iterator.next()).toEqual(given(expired('d')))
    await turn()
    expect(kept.value).toBe(true)
  })

  it('leaves no listener on a signal once nobody waits with it', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const { signal } = new AbortController()
    const add = vi.spyOn(signal, 'addEventListener')
    const remove = vi.spyOn(signal, 'removeEventListener')
    await broker.send(expired('a'), { signal })
    expect(add).not.toHaveBeenCalled()
    void broker.send(expired('b'), { signal })
    void broker.send(expired('c'), { signal })
    expect(add).toHaveBeenCalledTimes(1)
    const iterator = broker[Symbol.asyncIterator]()
    await iterator.next()
    expect(remove).not.toHaveBeenCalled()
    await iterator.next()
    expect(remove).toHaveBeenCalledTimes(1)
    await iterator.next()
    await broker.send(expired('d'), { signal })
    void broker.send(expired('e'), { signal })
    broker.close()
    expect(add).toHaveBeenCalledTimes(2)
    expect(remove).toHaveBeenCalledTimes(2)
  })

  it.each([[null], [undefined], ['StreamAdded'], [{}], [{ type: '' }], [{ type: 7 }]])(
    'refuses %j, which is no notification, and sends nothing',
    async (value) => {
      const broker = new NotificationBroker()
      await expect(broker.send(value as unknown as Notification)).rejects.toThrow(/^A notification must/)
      if (value !== undefined) expect(() => broker.close(value as unknown as Notification)).toThrow(TypeError)
      expect(broker.room).toBe(500)
    },
  )

  it.each([[0], [-1], [1.5], [Number.NaN], [Number.POSITIVE_INFINITY], ['5'], [null]])(
    'refuses a capacity of %s',
    (capacity) => {
      const build = (): unknown => new NotificationBroker({ capacity: capacity as number })
      expect(build).toThrow(StreamClientError)
      expect(build).toThrow(/^capacity must be a whole number of at least 1, not /)
      expect(build).toThrow(expect.objectContaining({ code: 'OPTION_INVALID', option: 'capacity' }))
    },
  )
})

describe('closing', () => {
  it('delivers what is queued, then the last one, then ends', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    await broker.send(expired('a'))
    await broker.send(disowned('b'))
    broker.close(terminated())
    expect(await readAll(broker)).toEqual([expired('a'), disowned('b'), terminated()])
    expect(await readAll(broker)).toEqual([])
  })

  it('tells waiting senders false and drops what they brought', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    await broker.send(expired('a'))
    const waiting = [broker.send(expired('b')), broker.send(expired('c'))]
    await broker.send(disowned('d'))
    broker.close(terminated())
    expect(await Promise.all(waiting)).toEqual([false, false])
    expect(await readAll(broker)).toEqual([expired('a'), disowned('d'), terminated()])
  })

  it('accepts nothing any more', async () => {
    const broker = new NotificationBroker()
    broker.close()
    expect(await broker.send(expired('a'))).toBe(false)
    expect(await broker.send(disowned('a'))).toBe(false)
    expect(broker.room).toBe(0)
    expect(await readAll(broker)).toEqual([])
  })

  it('counts the first time only', async () => {
    const broker = new NotificationBroker()
    broker.close()
    broker.close(terminated())
    expect(await readAll(broker)).toEqual([])
  })

  it('resolves closed without any reader, beside an abandoned one and with an unread queue', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const closed = follow(broker.closed)
    await turn()
    expect(closed.state).toBe('pending')
    const abandoned = broker[Symbol.asyncIterator]()
    await broker.send(expired('a'))
    await abandoned.next()
    await broker.send(expired('b'))
    const waiting = broker.send(expired('c'))
    broker.close(terminated())
    await broker.closed
    expect(await waiting).toBe(false)
  })

  it('ends the reads under way, the last notification going to the first of them', async () => {
    const broker = new NotificationBroker()
    const iterator = broker[Symbol.asyncIterator]()
    const reads = [iterator.next(), iterator.next(), iterator.next()]
    broker.close(terminated())
    expect(await Promise.all(reads)).toEqual([given(terminated()), DONE, DONE])
    expect(await iterator.next()).toEqual(DONE)
  })

  it('ends the reads under way when there is no last notification', async () => {
    const broker = new NotificationBroker()
    const iterator = broker[Symbol.asyncIterator]()
    const read = iterator.next()
    broker.close()
    expect(await read).toEqual(DONE)
    expect(await iterator.next()).toEqual(DONE)
  })
})

describe('iterating', () => {
  it('allows one iteration at a time', async () => {
    const broker = new NotificationBroker()
    const first = broker[Symbol.asyncIterator]()
    expect(() => broker[Symbol.asyncIterator]()).toThrow('one iteration at a time')
    await first.return?.()
    const second = broker[Symbol.asyncIterator]()
    expect(() => broker[Symbol.asyncIterator]()).toThrow('one iteration at a time')
    await first.return?.()
    expect(() => broker[Symbol.asyncIterator]()).toThrow('one iteration at a time')
    expect(await first.next()).toEqual(DONE)
    broker.close()
    expect(await second.next()).toEqual(DONE)
    broker[Symbol.asyncIterator]()
  })

  it('goes on after break where the last iteration ended, the broker staying open', async () => {
    const broker = new NotificationBroker()
    for (const name of ['a', 'b', 'c']) await broker.send(expired(name))
    for await (const notification of broker) {
      expect(notification).toEqual(expired('a'))
      break
    }
    expect(await broker.send(expired('d'))).toBe(true)
    broker.close()
    expect(await readAll(broker)).toEqual([expired('b'), expired('c'), expired('d')])
  })

  it('goes on after an error in the loop', async () => {
    const broker = new NotificationBroker()
    await broker.send(expired('a'))
    const loop = async (): Promise<void> => {
      for await (const { type } of broker) throw new Error(type)
    }
    await expect(loop()).rejects.toThrow('StreamExpired')
    broker.close()
    expect(await readAll(broker)).toEqual([])
  })

  it('ends the reads under way on return, and loses nothing to them', async () => {
    const broker = new NotificationBroker()
    const iterator = broker[Symbol.asyncIterator]()
    const reads = [iterator.next(), iterator.next()]
    expect(await iterator.return?.()).toEqual(DONE)
    expect(await Promise.all(reads)).toEqual([DONE, DONE])
    await broker.send(expired('a'))
    expect(await iterator.next()).toEqual(DONE)
    broker.close()
    expect(await readAll(broker)).toEqual([expired('a')])
  })

  it('serves reads that were not awaited in their order', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const iterator = broker[Symbol.asyncIterator]()
    await broker.send(expired('0'))
    void broker.send(expired('1'))
    const reads = Array.from({ length: 5 }, () => iterator.next())
    for (const name of ['2', '3', '4']) await broker.send(expired(name))
    const names = ['0', '1', '2', '3', '4']
    expect(await Promise.all(reads)).toEqual(names.map((name) => given(expired(name))))
  })
})

describe('events', () => {
  it('is an eventemitter3 emitter that emits each notification by its type when it is queued', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    expect(broker).toBeInstanceOf(EventEmitter)
    const heard: Notification[] = []
    for (const type of ['StreamAdded', 'StreamExpired', 'StreamDisowned', 'StreamTerminated'] as const) {
      broker.on(type, (notification) => heard.push(notification))
    }
    const stream = streamOf('a')
    await broker.send(added('a', stream))
    void broker.send(expired('b'))
    void broker.send(expired('never'))
    await broker.send(disowned('c'))
    expect(heard).toEqual([added('a', stream), disowned('c')])
    await broker[Symbol.asyncIterator]().next()
    expect(heard.at(-1)).toEqual(expired('b'))
    broker.close(terminated())
    expect(heard).toEqual([added('a', stream), disowned('c'), expired('b'), terminated()])
    await broker.send(expired('late'))
    expect(heard).toHaveLength(4)
  })

  it('goes on when a listener throws: others hear, send resolves true, the option hears of it', async () => {
    const onListenerError = vi.fn()
    const broker = new NotificationBroker({ onListenerError })
    const error = new Error('broken listener')
    const other = vi.fn()
    broker.on('StreamExpired', () => {
      throw error
    })
    broker.on('StreamExpired', other)
    expect(await broker.send(expired('a'))).toBe(true)
    expect(other).toHaveBeenCalledExactlyOnceWith(expired('a'))
    expect(onListenerError).toHaveBeenCalledExactlyOnceWith(error, 'StreamExpired')
    broker.close()
    expect(await readAll(broker)).toEqual([expired('a')])
  })

  it('lets a listener send, read, retract and close in the middle of a send', async () => {
    const broker = new NotificationBroker({ capacity: 2 })
    const iterator = broker[Symbol.asyncIterator]()
    const reads: Promise<IteratorResult<Notification>>[] = []
    const sends: Promise<boolean>[] = []
    const stream = streamOf('retracted')
    broker.once('StreamExpired', () => {
      reads.push(iterator.next())
      sends.push(broker.send(expired('inner')))
      sends.push(broker.send(added('retracted', stream)))
    })
    broker.on('StreamAdded', () => {
      expect(retract(broker, stream)).toBe(true)
      broker.close(terminated())
    })
    sends.unshift(broker.send(expired('outer')))
    expect(await Promise.all(sends)).toEqual([true, true, true])
    expect(await Promise.all(reads)).toEqual([given(expired('outer'))])
    expect(await iterator.next()).toEqual(given(expired('inner')))
    expect(await iterator.next()).toEqual(given(terminated()))
    expect(await iterator.next()).toEqual(DONE)
  })
})

describe('retract', () => {
  it('drops a queued StreamAdded of that stream and lets the next one in', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const stream = streamOf('a')
    await broker.send(added('a', stream))
    const waiting = follow(broker.send(expired('b')))
    expect(retract(broker, stream)).toBe(true)
    expect(retract(broker, stream)).toBe(false)
    await turn()
    expect(waiting.value).toBe(true)
    broker.close()
    expect(await readAll(broker)).toEqual([expired('b')])
  })

  it('drops a waiting StreamAdded, whose sender gets false', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const { signal } = new AbortController()
    const stream = streamOf('b')
    await broker.send(expired('a'))
    const dropped = broker.send(added('b', stream), { signal })
    const kept = broker.send(expired('c'))
    expect(retract(broker, stream)).toBe(true)
    expect(await dropped).toBe(false)
    const iterator = broker[Symbol.asyncIterator]()
    expect(await iterator.next()).toEqual(given(expired('a')))
    expect(await iterator.next()).toEqual(given(expired('c')))
    expect(await kept).toBe(true)
  })

  it('knows a stream by its object, not by its name', async () => {
    const broker = new NotificationBroker()
    const stream = streamOf('a')
    await broker.send(added('a', stream))
    expect(retract(broker, streamOf('a'))).toBe(false)
    broker.close()
    expect(await readAll(broker)).toEqual([added('a', stream)])
    expect(retract(broker, stream)).toBe(false)
  })

  it('leaves other notifications of the stream alone', async () => {
    const broker = new NotificationBroker()
    const stream = streamOf('a')
    await broker.send(disowned('a'))
    await broker.send(added('a', stream))
    await broker.send(expired('a'))
    expect(retract(broker, stream)).toBe(true)
    broker.close()
    expect(await readAll(broker)).toEqual([disowned('a'), expired('a')])
  })

  it('drops the later one if a stream was sent twice, wherever the earlier one is', async () => {
    const broker = new NotificationBroker()
    const stream = streamOf('a')
    await broker.send(added('first', stream))
    await broker.send(added('second', stream))
    await broker[Symbol.asyncIterator]().next()
    expect(retract(broker, stream)).toBe(true)
    expect(broker.room).toBe(500)
  })
})

describe('roomAvailable', () => {
  it('resolves at once while there is room, and when the broker is closed or the signal aborted', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    await roomAvailable(broker)
    await broker.send(expired('a'))
    await roomAvailable(broker, AbortSignal.abort())
    broker.close()
    await roomAvailable(broker)
  })

  it('waits for room while senders wait too, and wakes all who wait', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    await broker.send(expired('a'))
    void broker.send(expired('b'))
    const { signal } = new AbortController()
    const remove = vi.spyOn(signal, 'removeEventListener')
    const waits = [follow(roomAvailable(broker)), follow(roomAvailable(broker, signal))]
    const iterator = broker[Symbol.asyncIterator]()
    await iterator.next()
    await turn()
    expect(waits.map(({ state }) => state)).toEqual(['pending', 'pending'])
    await iterator.next()
    await turn()
    expect(waits.map(({ state }) => state)).toEqual(['resolved', 'resolved'])
    expect(broker.room).toBe(1)
    expect(remove).toHaveBeenCalledOnce()
  })

  it('waits on when what is delivered took no room', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    await broker.send(disowned('a'))
    await broker.send(expired('b'))
    const wait = follow(roomAvailable(broker))
    const iterator = broker[Symbol.asyncIterator]()
    await iterator.next()
    await turn()
    expect(wait.state).toBe('pending')
    await iterator.next()
    await turn()
    expect(wait.state).toBe('resolved')
  })

  it('resolves when the broker closes, when the signal aborts, and when what is queued is retracted', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const stream = streamOf('a')
    await broker.send(added('a', stream))
    const woken = roomAvailable(broker)
    retract(broker, stream)
    await woken
    await broker.send(expired('b'))
    const controller = new AbortController()
    const aborted = roomAvailable(broker, controller.signal)
    controller.abort()
    await aborted
    const closed = roomAvailable(broker, new AbortController().signal)
    broker.close()
    await closed
  })
})

describe('at 100,000 notifications', () => {
  const COUNT = 100_000

  it('takes senders that wait with one signal, lets half of them in and aborts the rest', async () => {
    const broker = new NotificationBroker({ capacity: 10 })
    const controller = new AbortController()
    const { signal } = controller
    const sends = Array.from({ length: COUNT }, (_, index) => broker.send(expired(String(index)), { signal }))
    const iterator = broker[Symbol.asyncIterator]()
    for (let index = 0; index < COUNT / 2; index += 1) void iterator.next()
    controller.abort()
    const results = await Promise.all(sends)
    expect(results.filter((accepted) => accepted)).toHaveLength(COUNT / 2 + 10)
    expect(results.lastIndexOf(true)).toBe(COUNT / 2 + 9)
  })

  it('retracts from anywhere, in any order, among notifications that do not count', async () => {
    const broker = new NotificationBroker({ capacity: 10 })
    const streams = Array.from({ length: COUNT }, (_, index) => streamOf(String(index)))
    const sends: Promise<boolean>[] = []
    for (const stream of streams) {
      sends.push(broker.send(added(stream.dataStreamName, stream)))
      void broker.send(disowned(stream.dataStreamName))
    }
    const backwards = streams.toReversed()
    for (const stream of backwards.slice(0, COUNT / 2)) retract(broker, stream)
    for (const stream of streams.slice(0, COUNT / 2)) retract(broker, stream)
    broker.close()
    expect((await Promise.all(sends)).filter((accepted) => accepted)).toHaveLength(COUNT / 2)
    const delivered = await readAll(broker)
    expect(delivered).toHaveLength(COUNT)
    expect(delivered.every(({ type }) => type === 'StreamDisowned')).toBe(true)
  })

  it('serves reads that were there before', async () => {
    const broker = new NotificationBroker({ capacity: 1 })
    const iterator = broker[Symbol.asyncIterator]()
    const reads = Array.from({ length: COUNT }, () => iterator.next())
    for (let index = 0; index < COUNT; index += 1) void broker.send(expired(String(index)))
    const results = await Promise.all(reads)
    expect(results[COUNT - 1]).toEqual(given(expired(String(COUNT - 1))))
  })
})
