/** The broker against a model that is too simple to be wrong: plain arrays, looked through from the start. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Notification, NotificationBroker, type OwnedStream } from '../src/index.js'
import { retract, roomAvailable } from '../src/internal.js'
import { added, disowned, expired, streamOf, terminated } from './support/notifications.js'
import { follow, type Outcome, turn } from './support/outcome.js'

type Step =
  | { readonly type: 'send'; readonly kind: 'added' | 'expired' | 'disowned'; readonly signal: number | null }
  | { readonly type: 'next' }
  | { readonly type: 'return' }
  | { readonly type: 'abort'; readonly signal: number }
  | { readonly type: 'retract'; readonly which: number }
  | { readonly type: 'room' }
  | { readonly type: 'close'; readonly hasLast: boolean }

const SIGNALS = 3

const steps = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      type: fc.constant('send' as const),
      kind: fc.constantFrom('added' as const, 'expired' as const, 'disowned' as const),
      signal: fc.option(fc.nat({ max: SIGNALS - 1 })),
    }),
  },
  { weight: 8, arbitrary: fc.constant({ type: 'next' as const }) },
  { weight: 1, arbitrary: fc.constant({ type: 'return' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant('abort' as const), signal: fc.nat({ max: SIGNALS - 1 }) }),
  },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('retract' as const), which: fc.nat() }) },
  { weight: 3, arbitrary: fc.constant({ type: 'room' as const }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('close' as const), hasLast: fc.boolean() }) },
)

interface Item {
  readonly notification: Notification
  readonly exempt: boolean
  readonly signal: number | null
  accepted: boolean | undefined
}

type Read = { result: Notification | 'done' | undefined }

class Model {
  readonly #capacity: number
  list: Item[] = []
  readonly reads: Read[] = []
  readonly events: Notification[] = []
  readonly rooms: { woken: boolean }[] = []
  isClosed = false

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get room(): number {
    if (this.isClosed) return 0
    return this.#capacity - this.list.filter(({ accepted, exempt }) => accepted === true && !exempt).length
  }

  /** Brings everything up to date: lets in, delivers, ends, wakes. */
  settle(): void {
    for (;;) {
      const next = this.list.find(
        ({ accepted, exempt }) => accepted === undefined && (exempt || (!this.isClosed && this.room > 0)),
      )
      const read = this.reads.find(({ result }) => result === undefined)
      const [head] = this.list
      if (next !== undefined) {
        next.accepted = true
        this.events.push(next.notification)
      } else if (read !== undefined && head?.accepted === true) {
        read.result = head.notification
        this.list.shift()
      } else if (read !== undefined && this.isClosed) {
        read.result = 'done'
      } else {
        break
      }
    }
    if (this.room > 0 || this.isClosed) for (const room of this.rooms) room.woken = true
  }

  drop(condition: (item: Item) => boolean): void {
    const dropped = new Set(this.list.filter(condition))
    for (const item of dropped) item.accepted ??= false
    this.list = this.list.filter((item) => !dropped.has(item))
  }
}

async function run(capacity: number, program: readonly Step[]): Promise<void> {
  const broker = new NotificationBroker({ capacity })
  const model = new Model(capacity)
  const controllers = Array.from({ length: SIGNALS }, () => new AbortController())
  const items: Item[] = []
  const sends: Outcome<boolean>[] = []
  const reads: Outcome<IteratorResult<Notification>>[] = []
  const rooms: Outcome<void>[] = []
  const streams: OwnedStream[] = []
  const events: Notification[] = []
  for (const type of ['StreamAdded', 'StreamExpired', 'StreamDisowned', 'StreamTerminated'] as const) {
    broker.on(type, (notification) => events.push(notification))
  }
  const closed = follow(broker.closed)
  let iterator: AsyncIterator<Notification> | undefined

  const take = (step: Step): void => {
    switch (step.type) {
      case 'send': {
        const name = String(items.length)
        const stream = streamOf(name)
        const notification =
          step.kind === 'added'
            ? added(name, stream)
            : step.kind === 'expired'
              ? expired(name)
              : disowned(name)
        if (step.kind === 'added') streams.push(stream)
        const signal = step.signal === null ? undefined : controllers[step.signal]?.signal
        const item: Item = {
          notification,
          exempt: step.kind === 'disowned',
          signal: step.signal,
          accepted: model.isClosed || signal?.aborted === true ? false : undefined,
        }
        items.push(item)
        if (item.accepted === undefined) model.list.push(item)
        sends.push(follow(broker.send(notification, { signal })))
        break
      }
      case 'next':
        iterator ??= broker[Symbol.asyncIterator]()
        model.reads.push({ result: undefined })
        reads.push(follow(iterator.next()))
        break
      case 'return':
        for (const read of model.reads) read.result ??= 'done'
        void iterator?.return?.()
        iterator = undefined
        break
      case 'abort':
        model.drop(({ accepted, signal }) => accepted === undefined && signal === step.signal)
        controllers[step.signal]?.abort()
        break
      case 'retract': {
        const stream = streams[step.which % Math.max(streams.length, 1)]
        if (stream === undefined) break
        const isIt = ({ notification: n }: Item): boolean => n.type === 'StreamAdded' && n.stream === stream
        const expected = model.list.some(isIt)
        model.drop(isIt)
        expect(retract(broker, stream)).toBe(expected)
        break
      }
      case 'room':
        model.rooms.push({ woken: false })
        rooms.push(follow(roomAvailable(broker)))
        break
      case 'close': {
        const wasClosed = model.isClosed
        model.isClosed = true
        model.drop(({ accepted }) => accepted === undefined)
        const last = terminated()
        if (!wasClosed && step.hasLast) {
          model.list.push({ notification: last, exempt: true, signal: null, accepted: undefined })
        }
        broker.close(step.hasLast ? last : undefined)
        break
      }
      default:
        step satisfies never
    }
  }

  for (const step of program) {
    take(step)
    model.settle()
    expect(broker.room).toBe(model.room)
    await turn()
    // The end of the list is the end of the iteration.
    if (model.reads.at(-1)?.result === 'done') iterator = undefined
    expect(events).toEqual(model.events)
    expect(sends.map(({ value }) => value)).toEqual(items.map(({ accepted }) => accepted))
    expect(reads.map(({ value }) => (value?.done === true ? 'done' : value?.value))).toEqual(
      model.reads.map(({ result }) => result),
    )
    expect(rooms.map(({ state }) => state === 'resolved')).toEqual(model.rooms.map(({ woken }) => woken))
    expect(closed.state).toBe(model.isClosed ? 'resolved' : 'pending')
  }
}

describe('the broker', () => {
  it('does what the model does, whatever the order of calls', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(steps, { maxLength: 40 }), run),
      { numRuns: 600 },
    )
  })

  it('loses and doubles nothing and keeps the order of each of many concurrent senders', async () => {
    const settings = fc.record({
      capacity: fc.integer({ min: 1, max: 20 }),
      senders: fc.integer({ min: 1, max: 30 }),
      perSender: fc.integer({ min: 1, max: 20 }),
      readsPerIteration: fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 10 }),
      closeAfter: fc.nat({ max: 400 }),
      abortAfter: fc.nat({ max: 400 }),
    })
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), settings, async (scheduler, setting) => {
        const broker = new NotificationBroker({ capacity: setting.capacity })
        const controller = new AbortController()
        const accepted = new Set<string>()
        const delivered: string[] = []

        const sender = async (id: number): Promise<void> => {
          const signal = id % 3 === 0 ? controller.signal : undefined
          for (let index = 0; index < setting.perSender; index += 1) {
            const name = `${id}:${index}`
            if (await broker.send(id % 4 === 1 ? disowned(name) : expired(name), { signal }))
              accepted.add(name)
            await scheduler.schedule(Promise.resolve())
          }
        }
        const reader = async (): Promise<void> => {
          for (let round = 0; ; round += 1) {
            let left = setting.readsPerIteration[round % setting.readsPerIteration.length] ?? 1
            let ended = true
            for await (const notification of broker) {
              if (notification.type === 'StreamTerminated') continue
              delivered.push(notification.payload.dataStreamName)
              if (delivered.length === setting.abortAfter) controller.abort()
              if (delivered.length === setting.closeAfter) broker.close(terminated())
              await scheduler.schedule(Promise.resolve())
              left -= 1
              if (left === 0) {
                ended = false
                break
              }
            }
            if (ended) return
          }
        }

        const senders = Promise.all(Array.from({ length: setting.senders }, (_, id) => sender(id)))
        await scheduler.waitFor(Promise.all([reader(), senders.then(() => broker.close())]))
        expect(new Set(delivered).size).toBe(delivered.length)
        expect(new Set(delivered)).toEqual(accepted)
        const last = new Map<string, number>()
        for (const name of delivered) {
          const [id = '', index = ''] = name.split(':')
          expect(Number(index)).toBeGreaterThan(last.get(id) ?? -1)
          last.set(id, Number(index))
        }
      }),
      { numRuns: 60 },
    )
  })
})
