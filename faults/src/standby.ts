/** A replica that takes over when its master fails, behind a network that can stop. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import type { Redis } from 'ioredis'

const SYNC_TIMEOUT_MS = 15_000

export class Standby implements AsyncDisposable {
  readonly server: RedisServer
  readonly #redis: Redis
  readonly #link: TcpProxy

  private constructor(server: RedisServer, link: TcpProxy) {
    this.server = server
    this.#redis = server.client()
    this.#link = link
  }

  static async of(master: RedisServer, persistence: 'aof' | 'rdb'): Promise<Standby> {
    const [server, link] = await Promise.all([RedisServer.start({ persistence }), TcpProxy.listen(master)])
    const standby = new Standby(server, link)
    const redis = master.client()
    try {
      await redis.config('SET', 'repl-diskless-sync-delay', '0')
      await standby.#redis.replicaof('127.0.0.1', link.port)
      await standby.inStep()
      return standby
    } catch (error) {
      await standby[Symbol.asyncDispose]()
      throw error
    } finally {
      redis.disconnect()
    }
  }

  /** Resolves when it has what its master has, but for what is under way. */
  async inStep(): Promise<void> {
    await eventually(
      'the replica is in step',
      async () => ((await this.#redis.role()) as unknown[])[3],
      (state) => state === 'connected',
      { timeoutMs: SYNC_TIMEOUT_MS },
    )
  }

  /** From now on nothing its master does comes through. */
  fallBehind(): void {
    this.#link.freeze()
  }

  /** Becomes the master, with what it has. */
  async promote(): Promise<RedisServer> {
    await this.#link[Symbol.asyncDispose]()
    await this.#redis.call('REPLICAOF', 'NO', 'ONE')
    return this.server
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#link[Symbol.asyncDispose]()
    await this.server[Symbol.asyncDispose]()
  }
}
