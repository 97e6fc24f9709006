/** When the reader reads, and when it has taken what it has read. */
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterEach, expect, it, vi } from 'vitest'
import { RedisStreamClient } from '../src/index.js'

type Sent = Parameters<Redis['sendCommand']>[0]

afterEach(() => {
  vi.restoreAllMocks()
})

/** What happens, in its order. A `turn` ends whenever the event loop has served all sockets that were ready. */
class Events implements Disposable {
  readonly #all: string[] = []
  #next: NodeJS.Immediate | undefined

  constructor(redis: Redis) {
    this.#turn()
    const ofAll = Object.getPrototypeOf(redis) as Redis
    // oxlint-disable-next-line typescript/unbound-method -- called with its object
    const send = ofAll.sendCommand
    const watch = (command: Sent): void => this.#watch(command)
    vi.spyOn(ofAll, 'sendCommand').mockImplementation(function (this: Redis, command, stream) {
      watch(command)
      return send.call(this, command, stream)
    })
  }

  add(event: string): void {
    this.#all.push(event)
  }

  /** Forgets what has happened so far. */
  clear(): void {
    this.#all.length = 0
  }

  /** The events from the first `first` on, none before it has happened. */
  since(first: string): string[] {
    const index = this.#all.indexOf(first)
    return index < 0 ? [] : this.#all.slice(index)
  }

  [Symbol.dispose](): void {
    clearImmediate(this.#next)
  }

  #turn(): void {
    if (this.#all.at(-1) !== 'turn') this.add('turn')
    this.#next = setImmediate(() => this.#turn())
  }

  #watch({ args, name, promise }: Sent): void {
    const texts = args.map(String)
    if (name.toLowerCase() === 'xreadgroup' && texts.includes('>')) {
      this.add('reads')
      promise.then(
        (reply) => this.add(reply === null ? 'nothing read' : 'read'),
        () => undefined,
      )
    }
    if (name.toLowerCase() === 'evalsha' && texts.includes('acquire')) {
      this.add('takes')
      promise.then(
        () => this.add('taken'),
        () => undefined,
      )
    }
  }
}

async function add(redis: Redis, ...names: string[]): Promise<void> {
  const pipeline = redis.pipeline()
  for (const name of names) pipeline.xadd('orders-input', '*', 'lbs-input', `{"DataStreamName":"${name}"}`)
  await pipeline.exec()
}

it('an entry that comes alone is taken in the turn in which it was read, and before the next read', async () => {
  await using server = await RedisServer.start()
  const redis = server.client()
  using events = new Events(redis)
  await using client = new RedisStreamClient(redis, 'orders', {
    consumerId: 'a',
    logger: pino({ level: 'silent' }),
  })
  await client.init()
  await add(redis, 'first') // the server knows the script from now on
  await expect.poll(() => client.owned.size).toBe(1)
  await expect.poll(() => events.since('read')).toContain('reads')
  events.clear()
  await add(redis, 'second')
  await expect.poll(() => events.since('taken')).toContain('reads')
  const [read, next, ...later] = events.since('read')
  expect([read, next]).toEqual(['read', 'takes'])
  expect(later.filter((event) => event !== 'turn').slice(0, 2)).toEqual(['taken', 'reads'])
})
