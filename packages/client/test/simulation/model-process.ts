/** A process of the simulation: the real client, and an application that works on what it is given. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { type ClientOptions, type OwnedStream, RedisStreamClient } from '../../src/index.js'
import type { ModelNetwork } from './model-network.js'
import { modelRedis } from './model-redis.js'
import { noLogger } from './no-logger.js'
import type { Random } from './random.js'
import type { Process } from './virtual-time.js'

/** How an application behaves. */
export interface Habits {
  readonly greatestWorkMs: number
  readonly greatestCommits: number
  /** How probable it gives a stream back instead of going on. */
  readonly releases: number
  /** How probable it does nothing about a stream until faults are over. */
  readonly dawdles: number
  /** How probable it asks for the signal and leaves when it aborts. */
  readonly listens: number
  /** How probable it leaves notifications unread for a while. */
  readonly dozes: number
  /** What it does with a stream whose signal aborts, and how long it takes. */
  readonly waysToLeave: readonly ('release' | 'done')[]
  readonly greatestLeaveMs: number
}

export interface ModelProcessContext {
  readonly network: ModelNetwork
  readonly random: Random
  readonly service: string
  readonly habits: Habits
  /** Faults are over: everything is to be brought to an end. */
  readonly isCalm: () => boolean
  readonly onCommitted: (number: number, count: number) => void
  readonly onProblem: (problem: string) => void
  readonly log: (text: string) => void
  /** Its client has not come to a session. */
  readonly onRefused: (process: ModelProcess, error: StreamClientError) => void
  /** The process has ended by itself. */
  readonly onExit: (process: ModelProcess) => void
}

const CLOSING_SLACK_MS = 2700
/** Longer than a session lives without an answer. */
const GREATEST_CALL_MS = 2000
/** Work is quick once faults are over: what is looked at then is who gets it. */
const CALM_WORK_MS = 5

export class ModelProcess implements Process {
  readonly name: string
  readonly id: string
  readonly options: ClientOptions
  isDead = false
  startedAtMs = 0
  /** When it died, if it has. */
  diedAtMs: number = Number.POSITIVE_INFINITY
  pausedUntilMs = 0
  readonly rate: number
  wallStepMs = 0
  readonly #context: ModelProcessContext
  #client: RedisStreamClient | undefined
  #closingSinceMs: number | null = null
  /** Streams it has said it is through with: what becomes of them is not its business any more. */
  readonly #given = new WeakSet<OwnedStream>()

  constructor(id: string, name: string, options: ClientOptions, rate: number, context: ModelProcessContext) {
    this.id = id
    this.name = name
    this.options = { ...options, consumerId: id, logger: noLogger }
    this.rate = rate
    this.#context = context
  }

  get client(): RedisStreamClient | undefined {
    return this.#client
  }

  /** Calls of the client's methods that have not settled, with when they were made. */
  readonly #calls = new Map<Promise<unknown>, { readonly what: string; readonly sinceMs: number }>()
  /** What the application was told it owns. */
  readonly #told = new Map<string, OwnedStream>()

  /** True while the application may act as owner of a stream. */
  trusts(stream: OwnedStream): boolean {
    return stream.owned
  }

  get isClosing(): boolean {
    return this.#closingSinceMs !== null
  }

  start(): void {
    const { network } = this.#context
    this.startedAtMs = network.time.nowMs
    network.time.at(network.time.nowMs, this, () => void this.#run())
  }

  /** Ends at once, as with SIGKILL: its connections are closed by the operating system. */
  kill(): void {
    if (this.isDead) return
    const { network } = this.#context
    this.isDead = true
    this.diedAtMs = network.time.nowMs
    for (const link of network.linksOf(this)) link.cut(true)
  }

  /** Somebody asks for streams to be moved at once. */
  rebalance(): void {
    const { network, onProblem } = this.#context
    network.time.at(network.time.nowMs, this, () => {
      this.#client?.rebalance().catch((error: unknown) => {
        if (!(error instanceof StreamClientError)) onProblem(`rebalancing: ${String(error)}`)
      })
    })
  }

  /** Leaves in good order. */
  leave(how: 'close' | 'done'): void {
    const { network } = this.#context
    this.#closingSinceMs ??= network.time.nowMs
    network.time.at(network.time.nowMs, this, () => {
      this.#client?.[how]().then(
        () => this.#exit(),
        (error: unknown) => this.#context.onProblem(`${how} of ${this.name} rejected: ${String(error)}`),
      )
    })
  }

  /** Says when leaving takes longer than it may, counted from a moment since which nothing is wrong. */
  checkLeaving(calmSinceMs: number): void {
    if (this.#closingSinceMs === null || this.isDead) return
    const sinceMs = Math.max(this.#closingSinceMs, calmSinceMs, this.pausedUntilMs)
    const boundMs = (this.options.closeTimeoutMs ?? 0) + CLOSING_SLACK_MS
    if (this.#context.network.time.nowMs > sinceMs + boundMs) {
      this.#context.onProblem(`${this.name} has not left within ${boundMs} ms`)
    }
  }

  async #run(): Promise<void> {
    const { network, service } = this.#context
    const client = new RedisStreamClient(modelRedis(network, this), service, this.options)
    this.#client = client
    try {
      const broker = await client.init()
      for await (const notification of broker) {
        this.#context.log(`${this.name} hears ${notification.type} ${nameIn(notification)}`)
        if (notification.type === 'StreamDisowned') this.#told.delete(notification.payload.dataStreamName)
        if (notification.type === 'StreamAdded') {
          this.#checkTold(notification.stream)
          void this.#serve(notification.stream)
        }
        if (notification.type === 'StreamExpired') void this.#claim(client, notification.payload)
        await this.#maybeDoze()
      }
    } catch (error) {
      this.#context.log(`${this.name} could not start: ${String(error)}`)
      if (error instanceof StreamClientError) this.#context.onRefused(this, error)
      else this.#context.onProblem(`${this.name}: ${String(error)}`)
    }
    if (this.#closingSinceMs === null) this.#exit()
  }

  async #maybeDoze(): Promise<void> {
    const { habits, isCalm, random } = this.#context
    if (!isCalm() && random.chance(habits.dozes)) await sleep(random.between(0, 300))
  }

  /** A process that is given a stream again was told before that its first ownership is over, unless it ended that itself. */
  #checkTold(stream: OwnedStream): void {
    const { dataStreamName } = stream
    const earlier = this.#told.get(dataStreamName)
    this.#told.set(dataStreamName, stream)
    if (earlier === undefined || earlier === stream || this.#given.has(earlier)) return
    this.#context.onProblem(`${this.name} was given ${dataStreamName} again and not told that it had lost it`)
  }

  async #called<T>(what: string, call: Promise<T>): Promise<T> {
    this.#calls.set(call, { what, sinceMs: this.#context.network.time.nowMs })
    try {
      return await call
    } finally {
      this.#calls.delete(call)
    }
  }

  /** Says when a call takes longer than it may, counted from a moment since which nothing is wrong. */
  checkCalls(calmSinceMs: number): void {
    if (this.isDead) return
    for (const { sinceMs, what } of this.#calls.values()) {
      const fromMs = Math.max(sinceMs, calmSinceMs, this.pausedUntilMs)
      if (this.#context.network.time.nowMs <= fromMs + GREATEST_CALL_MS) continue
      this.#context.onProblem(`${what} by ${this.name} has not settled within ${GREATEST_CALL_MS} ms`)
    }
  }

  async #claim(client: RedisStreamClient, payload: Parameters<RedisStreamClient['claim']>[0]): Promise<void> {
    try {
      const stream = await this.#called(`claim of ${payload.dataStreamName}`, client.claim(payload))
      // If it is lost already, the application has been told so, or will be, and this stream is none to remember.
      if (stream.owned) this.#told.set(payload.dataStreamName, stream)
      await this.#serve(stream)
    } catch (error) {
      if (!(error instanceof StreamClientError)) this.#context.onProblem(`claim: ${String(error)}`)
    }
  }

  /** Works on a stream until it is done, given back or lost. */
  async #serve(stream: OwnedStream): Promise<void> {
    const { habits, isCalm, onProblem, random } = this.#context
    const number = Number((stream.additionalInfo as { n?: number }).n)
    let count = Number(stream.checkpoint?.split(':')[1] ?? 0)
    const isDawdling = random.chance(habits.dawdles)
    const steps = random.whole(0, habits.greatestCommits)
    if (random.chance(habits.listens)) {
      stream.signal.addEventListener('abort', () => void this.#leaveStream(stream), { once: true })
    }
    while (stream.owned) {
      try {
        if (isDawdling && !isCalm()) await sleep(100)
        else {
          await sleep(random.between(0, isCalm() ? CALM_WORK_MS : habits.greatestWorkMs))
          if (!isCalm() && random.chance(habits.releases)) return await this.#give(stream, 'release')
          if (count >= steps) return await this.#give(stream, 'done')
          await this.#called('commit', stream.commit(`${number}:${++count}`))
          this.#context.onCommitted(number, count)
        }
      } catch (error) {
        if (!(error instanceof StreamClientError))
          onProblem(`work on ${stream.dataStreamName}: ${String(error)}`)
        count = Math.max(0, count - 1)
      }
    }
  }

  async #leaveStream(stream: OwnedStream): Promise<void> {
    const { habits, random } = this.#context
    try {
      if (habits.greatestLeaveMs > 0) await sleep(random.between(0, habits.greatestLeaveMs))
      await this.#give(stream, random.pick(habits.waysToLeave))
    } catch (error) {
      if (!(error instanceof StreamClientError)) this.#context.onProblem(`leaving: ${String(error)}`)
    }
  }

  async #give(stream: OwnedStream, how: 'release' | 'done'): Promise<void> {
    this.#given.add(stream)
    await this.#called(how, stream[how]())
  }

  #exit(): void {
    if (this.isDead) return
    this.#context.log(`${this.name} exits`)
    this.kill()
    this.#context.onExit(this)
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

function nameIn(notification: object): string {
  const { payload } = notification as { payload?: { dataStreamName: string; idInLbs: string } }
  return payload === undefined ? '' : `${payload.dataStreamName} ${payload.idInLbs}`
}
