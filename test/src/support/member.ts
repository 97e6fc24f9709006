/** A client in this process, with everything it was told and everything it holds. */
import {
  type ClientOptions,
  type LbsInfo,
  type Notification,
  type NotificationBroker,
  type OwnedStream,
  RedisStreamClient,
} from '@redis-stream-client/client'
import type { Redis } from 'ioredis'
import { eventually } from './eventually.js'
import type { Witness } from './witness.js'

const NOTIFICATION_TIMEOUT_MS = 10_000

export interface MemberOptions extends ClientOptions {
  /** What to do with a stream, once it was noted; nothing by default. A rejection is noted in `failures`. */
  readonly onStream?: (stream: OwnedStream, member: Member) => unknown
  /** `claim` (the default) or leave alone what is offered by StreamExpired. */
  readonly onExpired?: 'claim' | 'ignore'
  /** False: nobody reads the notifications until `read` is called. */
  readonly reads?: boolean
  /** Given to init. */
  readonly signal?: AbortSignal
}

type NotificationType = Notification['type']
type Of<T extends NotificationType> = Extract<Notification, { type: T }>

export class Member implements AsyncDisposable {
  readonly name: string
  readonly client: RedisStreamClient
  /** All notifications, in their order. */
  readonly notifications: Notification[] = []
  /** All streams it was given, by StreamAdded or by claiming, in their order. */
  readonly streams: OwnedStream[] = []
  /** Codes that claims were refused with. */
  readonly refusals: string[] = []
  readonly failures: unknown[] = []
  readonly errors: Error[] = []
  /** Resolves when the iterator has ended. */
  ended: Promise<void> = Promise.resolve()
  readonly #options: MemberOptions
  readonly #witness: Witness
  readonly #unread = new Set<Notification>()
  #broker: NotificationBroker | undefined

  constructor(redis: Redis, service: string, name: string, options: MemberOptions, witness: Witness) {
    this.name = name
    this.#options = options
    this.#witness = witness
    this.client = new RedisStreamClient(redis, service, { consumerId: name, ...clientOptionsOf(options) })
    this.client.on('error', (error) => this.errors.push(error))
  }

  async init(): Promise<this> {
    const { reads = true, signal } = this.#options
    this.#broker = await this.client.init(signal === undefined ? {} : { signal })
    if (reads) this.read()
    return this
  }

  get broker(): NotificationBroker {
    if (this.#broker === undefined) throw new Error(`${this.name} has not been initialised`)
    return this.#broker
  }

  /** Starts to read the notifications. */
  read(): void {
    this.ended = this.#read(this.broker)
  }

  /** The names of the streams owned now. */
  get owned(): string[] {
    return [...this.client.owned.keys()]
  }

  /** The newest stream it was given under that name. */
  stream(dataStreamName: string): OwnedStream | undefined {
    return this.streams.findLast((stream) => stream.dataStreamName === dataStreamName)
  }

  /** Waits until it has been given a stream (with a fence above `above`). */
  async given(
    dataStreamName: string,
    above: number = 0,
    timeoutMs: number = NOTIFICATION_TIMEOUT_MS,
  ): Promise<OwnedStream> {
    const stream = await eventually(
      `${this.name} is given ${dataStreamName} with a fence above ${above}`,
      () => this.stream(dataStreamName),
      (found) => found !== undefined && found.fencingToken > above,
      { timeoutMs },
    )
    return stream as OwnedStream
  }

  /** The oldest notification of a type (and stream) that was not handed out by this yet, or the next such. */
  async next<T extends NotificationType>(
    type: T,
    dataStreamName?: string,
    timeoutMs: number = NOTIFICATION_TIMEOUT_MS,
  ): Promise<Of<T>> {
    const isWanted = (each: Notification): each is Of<T> =>
      each.type === type &&
      (dataStreamName === undefined || ('payload' in each && each.payload.dataStreamName === dataStreamName))
    const found = await eventually(
      `${this.name} is told ${type} ${dataStreamName ?? ''}; it was told ${this.#told()}`,
      () => [...this.#unread].find(isWanted),
      (each) => each !== undefined,
      { timeoutMs },
    )
    this.#unread.delete(found as Notification)
    return found as Of<T>
  }

  /** Those of a type so far. */
  of<T extends NotificationType>(type: T): Of<T>[] {
    return this.notifications.filter((each): each is Of<T> => each.type === type)
  }

  /** Claims, and notes the stream that was won. */
  async claim(payload: LbsInfo): Promise<OwnedStream> {
    const stream = await this.client.claim(payload)
    this.#note(stream)
    return stream
  }

  async done(stream: OwnedStream): Promise<void> {
    this.#witness.leave(stream)
    await stream.done()
  }

  async release(stream: OwnedStream): Promise<void> {
    this.#witness.leave(stream)
    await stream.release()
  }

  async close(): Promise<void> {
    for (const stream of this.streams) this.#witness.leave(stream)
    await this.client.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #read(broker: NotificationBroker): Promise<void> {
    for await (const notification of broker) {
      this.notifications.push(notification)
      this.#unread.add(notification)
      if (notification.type === 'StreamAdded') this.#note(notification.stream)
      if (notification.type === 'StreamExpired' && this.#options.onExpired !== 'ignore') {
        this.claim(notification.payload).catch((error: unknown) => {
          this.refusals.push((error as { code?: string }).code ?? String(error))
        })
      }
    }
  }

  #note(stream: OwnedStream): void {
    if (this.streams.includes(stream)) return
    this.#witness.begin(this.name, stream)
    this.streams.push(stream)
    void this.#work(stream)
  }

  async #work(stream: OwnedStream): Promise<void> {
    try {
      await this.#options.onStream?.(stream, this)
    } catch (error) {
      this.failures.push(error)
    }
  }

  #told(): string {
    const counts = new Map<string, number>()
    for (const { type } of this.notifications) counts.set(type, (counts.get(type) ?? 0) + 1)
    return JSON.stringify(Object.fromEntries(counts))
  }
}

/** The client's own options among a member's. */
export function clientOptionsOf({
  onStream: _onStream,
  onExpired: _onExpired,
  reads: _reads,
  signal: _signal,
  ...options
}: MemberOptions): ClientOptions {
  return options
}
