/** A Redis server of a scenario's own, with hosts that go with it. */
import { type ClientOptions, RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { Host, type HostKind } from './host.js'
import { RedisMeter } from './redis-meter.js'

export class Sandbox implements AsyncDisposable {
  readonly server: RedisServer
  readonly redis: Redis
  readonly meter: RedisMeter
  readonly #hosts: Host[] = []
  #services = 0

  private constructor(server: RedisServer) {
    this.server = server
    this.redis = this.client({ maxRetriesPerRequest: null })
    this.meter = new RedisMeter(this.redis)
  }

  static async open(): Promise<Sandbox> {
    return new Sandbox(await RedisServer.start())
  }

  get url(): string {
    return this.server.url
  }

  /** A client on the loopback interface, as all that is measured: a unix socket would be faster. Goes with this sandbox. */
  client(options: ClientOptions = {}): Redis {
    return this.server.client({ ...options, port: this.server.port, host: '127.0.0.1' })
  }

  /** A name no service of this server has had. */
  newService(): string {
    return `bench-${++this.#services}`
  }

  async host(kind: HostKind, nodeArgs: readonly string[] = []): Promise<Host> {
    return await this.adopt(Host.start(kind, this.url, nodeArgs))
  }

  /** A host that was started otherwise goes with this sandbox too. */
  async adopt(starting: Promise<Host>): Promise<Host> {
    const host = await starting
    this.#hosts.push(host)
    return host
  }

  async hosts(kind: HostKind, count: number): Promise<Host[]> {
    return await Promise.all(Array.from({ length: count }, () => this.host(kind)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host[Symbol.asyncDispose]()))
    await this.server[Symbol.asyncDispose]()
  }
}
