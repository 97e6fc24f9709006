/**
 * What the client takes for ioredis: connections to the model server that open, answer, break and reconnect as
 * those of ioredis do with the settings the client uses (no offline queue, no automatic resend).
 */
import { EventEmitter } from 'node:events'
import { ReplyError as UntypedReplyError } from 'ioredis'
import type { RedisLike } from '../../src/redis/duplicate.js'
import type { Link, ModelNetwork } from './model-network.js'
import type { Answer } from './model-scripts.js'
import type { Process } from './virtual-time.js'

/** An error as the server has answered it. */
export const ReplyError = UntypedReplyError as new (message: string) => Error
const GREATEST_CLOSE_MS = 10

interface Settings {
  readonly connectTimeout?: number
  readonly retryStrategy?: (times: number) => number | null
}

interface Waiting {
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: Error) => void
}

/** A connection of a process, not opened yet, to be used wherever ioredis is asked for. */
export function modelRedis(network: ModelNetwork, process: Process): RedisLike {
  return new ModelRedis(network, process, {}) as unknown as RedisLike
}

class ModelRedis extends EventEmitter {
  readonly isCluster = false
  readonly options: Settings & { readonly db: number }
  status = 'wait'
  readonly #network: ModelNetwork
  readonly #process: Process
  #link: Link | null = null
  #waiting = new Set<Waiting>()
  #isEnding = false
  #isManual = false
  #failures = 0
  /** Which connection it is: what belongs to an earlier one is not heard any more. */
  #epoch = 0

  constructor(network: ModelNetwork, process: Process, settings: Settings) {
    super()
    this.#network = network
    this.#process = process
    this.options = { ...settings, db: 0 }
  }

  duplicate(settings: Settings): ModelRedis {
    return new ModelRedis(this.#network, this.#process, settings)
  }

  /** Resolves when it is ready; rejects when that try has failed. */
  connect(): Promise<void> {
    this.#isManual = false
    return new Promise((resolve, reject) => {
      this.once('ready', resolve)
      this.once('close', () => reject(new Error('Connection is closed.')))
      this.#open()
    })
  }

  disconnect(reconnect = false): void {
    if (!reconnect) this.#isManual = true
    if (this.status === 'wait' || this.status === 'reconnecting') {
      if (!reconnect) this.#end()
      return
    }
    if (this.status === 'end' || this.#isEnding) return
    this.#isEnding = true
    const { random } = this.#network.time
    this.#link?.close()
    this.#after(random.between(0, GREATEST_CLOSE_MS), () => this.#close())
  }

  pipeline(): unknown {
    const calls: [name: string, args: unknown[]][] = []
    const pipeline = {
      config: (...args: unknown[]) => {
        calls.push(['config', args])
        return pipeline
      },
      xrangeBuffer: (...args: unknown[]) => {
        calls.push(['xrange', args])
        return pipeline
      },
      exec: () =>
        Promise.all(
          calls.map(([name, args]) =>
            this.#send(name, args).then(
              (answer) => [null, inBuffers(answer)],
              (error: unknown) => [error, undefined],
            ),
          ),
        ),
    }
    return pipeline
  }

  info = (...args: unknown[]) => this.#send('info', args)
  config = (...args: unknown[]) => this.#send('config', args)
  publish = (...args: unknown[]) => this.#send('publish', args)
  subscribe = (...args: unknown[]) => this.#send('subscribe', args)
  psubscribe = (...args: unknown[]) => this.#send('psubscribe', args)
  evalsha = (...args: unknown[]) => this.#send('evalsha', args)
  eval = (...args: unknown[]) => this.#send('eval', args)
  callBuffer = (name: string, ...args: unknown[]) => this.#send(name, args).then(inBuffers)
  ping = (...args: unknown[]) => this.#send('ping', args)
  get = (...args: unknown[]) => this.#send('get', args)
  set = (...args: unknown[]) => this.#send('set', args)
  hget = (...args: unknown[]) => this.#send('hget', args)
  hmget = (...args: unknown[]) => this.#send('hmget', args)
  hscan = (...args: unknown[]) => this.#send('hscan', args)
  xack = (...args: unknown[]) => this.#send('xack', args)
  xgroup = (...args: unknown[]) => this.#send('xgroup', args)
  xpending = (...args: unknown[]) => this.#send('xpending', args)
  xinfo = (...args: unknown[]) => this.#send('xinfo', args)
  xrange = (...args: unknown[]) => this.#send('xrange', args)
  xreadgroup = (...args: unknown[]) => this.#send('xreadgroup', args)

  #send(name: string, args: readonly unknown[]): Promise<unknown> {
    const link = this.#link
    if (this.status !== 'ready' || this.#isEnding || link === null) {
      return Promise.reject(new Error("Stream isn't writeable and enableOfflineQueue options is false"))
    }
    return new Promise((resolve, reject) => {
      const waiting = { resolve, reject }
      this.#waiting.add(waiting)
      link.call(name, wordsOf(args), (error, answer) => {
        if (!this.#waiting.delete(waiting)) return
        if (error === null) resolve(mutable(answer as Answer))
        else reject(new ReplyError(error.message))
      })
    })
  }

  #open(): void {
    const { time } = this.#network
    const epoch = ++this.#epoch
    this.#isEnding = false
    this.status = 'connecting'
    const failsAtMs = time.nowMs + (this.options.connectTimeout ?? 10_000)
    const fail = (problem: string): void => {
      if (epoch !== this.#epoch || this.status !== 'connecting') return
      this.emit('error', new Error(problem))
      this.#close()
    }
    const arrive = (): void => {
      if (epoch !== this.#epoch || this.status !== 'connecting' || this.#isEnding) return
      const delayedMs = this.#network.delayedMs(this.#process, true)
      if (delayedMs > failsAtMs) time.at(failsAtMs, this.#process, () => fail('connect ETIMEDOUT'))
      else if (delayedMs > time.nowMs) time.at(delayedMs, this.#process, arrive)
      else if (!this.#network.isServerUp) fail('connect ECONNREFUSED')
      else accept()
    }
    const accept = (): void => {
      this.#failures = 0
      this.#link = this.#network.open(
        this.#process,
        () => {
          if (epoch === this.#epoch) this.#close()
        },
        (event, texts) => this.emit(event, ...texts),
      )
      this.status = 'ready'
      this.emit('ready')
    }
    this.#after(this.#network.latencyMs() + this.#network.latencyMs(), arrive)
  }

  #close(): void {
    this.#epoch++
    this.#isEnding = false
    this.#link?.close()
    this.#link = null
    this.status = 'close'
    this.emit('close')
    const delayMs = this.#isManual ? null : (this.options.retryStrategy?.(++this.#failures) ?? null)
    this.#reject()
    if (delayMs === null) {
      this.#end()
      return
    }
    this.status = 'reconnecting'
    const epoch = this.#epoch
    this.#after(delayMs, () => {
      if (epoch === this.#epoch && this.status === 'reconnecting') this.#open()
    })
  }

  #end(): void {
    this.#epoch++
    this.status = 'end'
    this.#reject()
    this.emit('end')
  }

  #reject(): void {
    const waiting = this.#waiting
    this.#waiting = new Set()
    for (const { reject } of waiting) reject(new Error('Connection is closed.'))
  }

  #after(ms: number, act: () => void): void {
    const { time } = this.#network
    time.at(time.nowMs + ms, this.#process, act)
  }
}

/** Answers belong to whoever gets them. */
function mutable(answer: Answer): unknown {
  return Array.isArray(answer) ? answer.map((each: Answer) => mutable(each)) : answer
}

/** An answer as the methods of ioredis with `Buffer` in their names give it. */
export function inBuffers(answer: unknown): unknown {
  if (Array.isArray(answer)) return answer.map(inBuffers)
  return typeof answer === 'string' ? Buffer.from(answer) : answer
}

/** The words of a command, as ioredis makes them of its arguments. */
export function wordsOf(args: readonly unknown[]): string[] {
  const words: string[] = []
  for (const arg of args) {
    if (Array.isArray(arg)) for (const each of arg) words.push(String(each))
    else words.push(String(arg))
  }
  return words
}
