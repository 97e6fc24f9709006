/**
 * Notifications that a test sends, for the loop of an application. Stands for what `RedisStreamClient.init` resolves with,
 * and has those calls of the client that such a loop makes.
 */
import { added, disowned, expired } from '@redis-stream-client/client/internal'
import {
  type DisownReason,
  type JsonObject,
  type LbsInfo,
  type Notification,
  NotificationBroker,
  StreamClientError,
  type TerminationReason,
} from '@redis-stream-client/notifs'
import { retract } from '@redis-stream-client/notifs/internal'
import { FakeStream, type FakeStreamOptions } from './fake-stream.js'

export interface FakeExpiredOptions extends Omit<FakeStreamOptions, 'recovered'> {
  /** Client id of the one that fell; null, the default, after a handover. */
  readonly previousOwner?: string | null | undefined
}

/** What may be claimed, and what became of it. */
interface Offer {
  readonly stream: FakeStream
  isGone: boolean
}

export class FakeNotifications implements AsyncIterable<Notification>, AsyncDisposable {
  readonly #broker = new NotificationBroker()
  readonly #owned = new Map<string, FakeStream>()
  readonly #offers = new Map<string, Offer>()
  #closing: Promise<void> | undefined;

  /** Begins to read, as the loop of the application does: `for await (const notification of notifications)`. */
  [Symbol.asyncIterator](): AsyncIterator<Notification, undefined> {
    return this.#broker[Symbol.asyncIterator]()
  }

  /** As RedisStreamClient.init. */
  init(): Promise<NotificationBroker> {
    if (this.#closing !== undefined) return Promise.reject(closed())
    return Promise.resolve(this.#broker)
  }

  /**
   * As RedisStreamClient.claim. Resolves with the stream of `expire`, and with the same one when it is claimed twice.
   * Rejects with ALREADY_CLAIMED after `takeAway`, with STREAM_GONE when nothing like it was offered, with CLOSED.
   */
  async claim(payload: LbsInfo): Promise<FakeStream> {
    await Promise.resolve()
    if (this.#closing !== undefined) throw closed()
    const { dataStreamName, idInLbs } = payload
    if (typeof dataStreamName !== 'string' || typeof idInLbs !== 'string') {
      throw new StreamClientError(
        'OPTION_INVALID',
        'claim needs the payload of a notification: dataStreamName, idInLbs',
      )
    }
    const facts = { dataStreamName, idInLbs }
    const owned = this.#owned.get(dataStreamName)
    if (owned?.idInLbs === idInLbs && owned.owned) return owned
    const offer = this.#offers.get(idInLbs)
    if (offer === undefined || offer.stream.dataStreamName !== dataStreamName) {
      throw new StreamClientError(
        'STREAM_GONE',
        `there is no entry ${idInLbs} of ${dataStreamName} to claim`,
        facts,
      )
    }
    if (offer.isGone) throw new StreamClientError('ALREADY_CLAIMED', 'already claimed', facts)
    this.#offers.delete(idInLbs)
    this.#own(offer.stream)
    return offer.stream
  }

  /** As RedisStreamClient.owned: what is owned at this moment. */
  get owned(): ReadonlyMap<string, FakeStream> {
    return new Map([...this.#owned].filter(([, stream]) => stream.endedBy === null))
  }

  /**
   * As RedisStreamClient.close: signals abort with the code CLOSED, streams whose signal nobody has read are released, the
   * others are waited for. There is no limit to that: an owner that does not give its stream back is a test that fails.
   */
  close(): Promise<void> {
    this.#closing ??= this.#giveBack()
    return this.#closing
  }

  /** `await using`: ends all that is left, without waiting for anybody. */
  [Symbol.asyncDispose](): Promise<void> {
    this.terminate('aborted')
    return Promise.resolve()
  }

  /** Of the test: this client owns a stream now. Sends StreamAdded and returns the stream in it. */
  add(dataStreamName: string, options: FakeStreamOptions = {}): FakeStream {
    const stream = new FakeStream(dataStreamName, options)
    this.#own(stream)
    void this.#broker.send(added(stream))
    return stream
  }

  /** Of the test: a stream lost its owner. Sends StreamExpired; `claim` gives the stream that this returns. */
  expire(dataStreamName: string, { previousOwner = null, ...options }: FakeExpiredOptions = {}): FakeStream {
    const stream = new FakeStream(dataStreamName, { ...options, recovered: true })
    this.#offers.set(stream.idInLbs, { stream, isGone: false })
    const info: JsonObject = stream.additionalInfo
    void this.#broker.send(expired({ payload: stream, message: { dataStreamName, info }, previousOwner }))
    return stream
  }

  /** Of the test: another client is faster to claim it. */
  takeAway(stream: FakeStream): void {
    const offer = this.#offers.get(stream.idInLbs)
    if (offer !== undefined) offer.isGone = true
  }

  /** Of the test: this client does not own a stream any more. Ends it and sends StreamDisowned, as the client does. */
  disown(stream: FakeStream, reason: DisownReason = 'taken-over'): void {
    if (stream.endedBy !== null) return
    stream.disown(reason)
    // Of a stream that nobody has heard of yet nobody need hear that it is gone.
    if (!retract(this.#broker, stream)) void this.#broker.send(disowned(stream, reason))
  }

  /** Of the test: the session of the client is over, and with it every stream. */
  loseSession(): void {
    for (const stream of [...this.#owned.values()]) this.disown(stream, 'session-lost')
  }

  /** Of the test: the client has shut down. Ends every stream and sends StreamTerminated, the last notification. */
  terminate(reason: TerminationReason = 'closed', error?: Error): void {
    this.#closing ??= Promise.resolve()
    for (const stream of [...this.#owned.values()]) stream.disown('session-lost')
    const additionalInfo = { info: `a test has ended it: ${reason}` }
    this.#broker.close({
      ...{ type: 'StreamTerminated', additionalInfo, reason },
      ...(error === undefined ? {} : { error }),
    })
  }

  #own(stream: FakeStream): void {
    const earlier = this.#owned.get(stream.dataStreamName)
    if (earlier !== undefined) this.disown(earlier, 'taken-over')
    this.#owned.set(stream.dataStreamName, stream)
    void stream.ended().then(() => {
      if (this.#owned.get(stream.dataStreamName) === stream) this.#owned.delete(stream.dataStreamName)
    })
  }

  async #giveBack(): Promise<void> {
    const streams = [...this.#owned.values()]
    for (const stream of streams) stream.askToStop('CLOSED')
    for (const stream of streams) if (!stream.hasSignal) void stream.release().catch(() => undefined)
    await Promise.all(streams.map((stream) => stream.ended()))
    this.terminate('closed')
  }
}

function closed(): StreamClientError {
  return new StreamClientError('CLOSED', 'the client is closed')
}
