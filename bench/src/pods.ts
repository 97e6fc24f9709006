/** The pods of a service: processes with one client each, whose applications give streams back when they are asked. */
import { setTimeout as sleep } from 'node:timers/promises'
import { sharedNowMs } from './clock.js'
import type { Host } from './host.js'
import type { StreamEvent } from './host-protocol.js'
import { heldByConsumer } from './pending.js'
import type { Sandbox } from './sandbox.js'
import { evenSince, type Moves, movesSince, sizesOf } from './stream-moves.js'

const LOOK_EVERY_MS = 20
/** Events are told a little later than they happen. */
const TOLD_AFTER_MS = 100

export class Pods {
  readonly service: string
  readonly #sandbox: Sandbox
  readonly #settings: Readonly<Record<string, unknown>>
  readonly #hosts = new Map<string, Host>()
  readonly #events: StreamEvent[] = []

  /** `settings`: options of the clients. */
  constructor(sandbox: Sandbox, settings: Readonly<Record<string, unknown>> = {}) {
    this.#sandbox = sandbox
    this.service = sandbox.newService()
    this.#settings = { claimMode: 'auto', ...settings }
  }

  get names(): string[] {
    return [...this.#hosts.keys()]
  }

  /** Starts a process whose client joins as soon as it can. Resolves when the client has a session. */
  async start(name: string): Promise<void> {
    await this.#join(await this.#startHost(), name)
  }

  async startAll(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.start(name)))
  }

  /** Clients that join at the same moment, all in one process. */
  async startTogether(names: readonly string[]): Promise<void> {
    const host = await this.#startHost()
    await Promise.all(names.map((name) => this.#join(host, name)))
  }

  /** As in a deploy: its client closes, then the process ends. */
  async close(name: string): Promise<void> {
    const host = this.#hostOf(name)
    await host.leave(name)
    await sleep(TOLD_AFTER_MS)
    this.#hosts.delete(name)
    await host[Symbol.asyncDispose]()
  }

  /** SIGKILL. */
  async kill(name: string): Promise<void> {
    const host = this.#hostOf(name)
    this.#hosts.delete(name)
    await host[Symbol.asyncDispose]()
  }

  /** How many streams each pod owns, by its own account. */
  async sizes(): Promise<number[]> {
    await sleep(TOLD_AFTER_MS)
    return sizesOf(this.#events, this.names)
  }

  async movesSince(sinceMs: number): Promise<Moves> {
    await sleep(TOLD_AFTER_MS)
    return movesSince(this.#events, sinceMs)
  }

  /** From which moment on the busiest had no more than so many times the mean; NaN if it has more now. */
  evenSince(greatest: number): number {
    return evenSince(this.#events, this.names, greatest)
  }

  /** When a stream was taken last. */
  get lastTakenAtMs(): number {
    return this.#events.reduce((last, { atMs, kind }) => (kind === 'taken' ? Math.max(last, atMs) : last), 0)
  }

  /** Waits until so many streams are owned by pods that are here. */
  async untilOwned(count: number, timeoutMs = 60_000): Promise<void> {
    const untilMs = sharedNowMs() + timeoutMs
    for (;;) {
      const owned = sizesOf(this.#events, this.names).reduce((sum, size) => sum + size, 0)
      const held = await this.#heldHere()
      if (owned >= count && held >= count) return
      if (sharedNowMs() > untilMs)
        throw new Error(`${owned} of ${count} streams are owned after ${timeoutMs} ms`)
      await sleep(LOOK_EVERY_MS)
    }
  }

  async #heldHere(): Promise<number> {
    const held = await heldByConsumer(this.#sandbox.redis, this.service)
    let count = 0
    for (const [consumer, entries] of held) {
      if (this.#hosts.has(consumer.replace(/^redis-consumer-/, '').replace(/:[^:]*$/, ''))) count += entries
    }
    return count
  }

  async #startHost(): Promise<Host> {
    const host = await this.#sandbox.host('ours')
    host.onStreams = (events) => void this.#events.push(...events)
    return host
  }

  async #join(host: Host, name: string): Promise<void> {
    this.#hosts.set(name, host)
    const options = { onStream: 'hand-over', keepsTimes: false, tellsStreams: true } as const
    await host.join(name, { service: this.service, settings: this.#settings, ...options })
  }

  #hostOf(name: string): Host {
    const host = this.#hosts.get(name)
    if (host === undefined) throw new Error(`there is no pod ${name}`)
    return host
  }
}

/** `pod-0`, `pod-1`, ... */
export function podNames(count: number, first = 0): string[] {
  return Array.from({ length: count }, (_, index) => `pod-${first + index}`)
}
