/** The hosts of a soak: some live through it, the others are killed, stopped or closed at random and replaced. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { Host } from './host.js'
import type { SoakSettings } from './soak-audit.js'

const HOSTS = 5
/** These live through the whole soak: what they hold in the end is what leaks. */
const LONG_LIVED = 2
const CLIENTS_PER_HOST = 2
/** Longer than the TTL: the sessions are lost, and their clients come back. */
const PAUSE_MS = 3500
const TROUBLES = ['kill', 'kill', 'pause', 'close'] as const

/** The greatest of the long-lived hosts, and the server. */
export interface SoakSample {
  readonly heapMb: number
  readonly handles: number
  readonly redisMb: number
}

export class SoakFleet implements AsyncDisposable {
  readonly #server: RedisServer
  readonly #redis: Redis
  readonly #service: string
  readonly #settings: SoakSettings
  readonly #hosts: Host[] = []
  readonly #counts = { kill: 0, pause: 0, close: 0 }
  #members = 0

  private constructor(server: RedisServer, service: string, settings: SoakSettings) {
    this.#server = server
    this.#redis = server.client()
    this.#service = service
    this.#settings = settings
  }

  static async start(server: RedisServer, service: string, settings: SoakSettings): Promise<SoakFleet> {
    const fleet = new SoakFleet(server, service, settings)
    for (let i = 0; i < HOSTS; i++) fleet.#hosts.push(await fleet.#startHost())
    return fleet
  }

  /** What was done to the hosts so far. */
  get troubles(): string {
    const { close, kill, pause } = this.#counts
    return `${kill} kills, ${pause} pauses, ${close} closes`
  }

  /** Does something to one of the hosts; resolves when it, or another in its place, works again. */
  async makeTrouble(): Promise<void> {
    const index = LONG_LIVED + Math.floor(Math.random() * (HOSTS - LONG_LIVED))
    const host = this.#hosts[index] as Host
    const kind = TROUBLES[Math.floor(Math.random() * TROUBLES.length)] ?? 'kill'
    this.#counts[kind]++
    if (kind === 'pause') {
      host.pause()
      await sleep(PAUSE_MS)
      host.resume()
      return
    }
    if (kind === 'close') await Promise.all([...host.counts.keys()].map((name) => host.leave(name)))
    await host[Symbol.asyncDispose]()
    this.#hosts[index] = await this.#startHost()
  }

  async sample(): Promise<SoakSample> {
    const heaps = await Promise.all(this.#hosts.slice(0, LONG_LIVED).map((host) => host.collect()))
    const usedBytes = Number(/^used_memory:(\d+)/m.exec(await this.#redis.info('memory'))?.[1])
    return {
      heapMb: Math.max(...heaps.map(({ heapUsed }) => heapUsed)) / 2 ** 20,
      handles: Math.max(...heaps.map(({ handles }) => handles)),
      redisMb: usedBytes / 2 ** 20,
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host[Symbol.asyncDispose]()))
  }

  async #startHost(): Promise<Host> {
    const host = await Host.start('soaker', this.#server.url, ['--expose-gc'])
    const names = Array.from({ length: CLIENTS_PER_HOST }, () => `m${this.#members++}`)
    const options = { service: this.#service, keepsTimes: false, settings: { ...this.#settings } }
    await Promise.all(names.map((name) => host.join(name, options)))
    return host
  }
}
