/** A service with its server, workers and streams, for one test. */
import { LbsProducer } from '@redis-stream-client/client'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import { StreamWorker } from '@redis-stream-client/worker'
import type { Redis } from 'ioredis'
import { pino } from 'pino'
import type { WorkerEvents } from '../../src/contract/worker-events.js'
import type { WorkerOptions } from '../../src/contract/worker-options.js'

const SERVICE = 'orders'
const EVENTS = [
  'streamStarted',
  'streamEnded',
  'streamHalted',
  'streamPaused',
  'streamResumed',
  'retry',
  'deadLetter',
  'abandoned',
  'recordsLost',
  'streamReset',
  'breaker',
  'rateLimited',
  'error',
] as const satisfies readonly (keyof WorkerEvents)[]

export interface SeenEvent {
  readonly event: keyof WorkerEvents
  readonly [fact: string]: unknown
}

/** A worker that runs, and what it said. */
export interface Running {
  readonly worker: StreamWorker
  readonly events: SeenEvent[]
  readonly running: Promise<void>
}

export class World implements AsyncDisposable {
  readonly server: RedisServer
  readonly redis: Redis
  readonly service: string
  readonly #started: Running[] = []
  readonly #proxies: TcpProxy[] = []

  private constructor(server: RedisServer, service: string) {
    this.server = server
    this.redis = server.client()
    this.service = service
  }

  static async start(service: string = SERVICE): Promise<World> {
    return new World(await RedisServer.start(), service)
  }

  /** Adds records `n: 0..count-1` to a stream and, unless told not to, the stream to the LBS. */
  async fill(
    stream: string,
    count: number,
    { first = 0, assign = true }: { first?: number; assign?: boolean } = {},
  ): Promise<string[]> {
    const pipeline = this.redis.pipeline()
    for (let n = first; n < first + count; n++) pipeline.xadd(stream, '*', 'n', n)
    const ids = ((await pipeline.exec()) ?? []).map(([, id]) => String(id))
    if (assign) await this.assign(stream)
    return ids
  }

  async assign(stream: string, info?: { [key: string]: string }): Promise<void> {
    await new LbsProducer(this.redis, this.service).add(stream, info)
  }

  /** A worker that is not running yet. */
  worker(name: string, options: WorkerOptions, redis: Redis = this.redis): StreamWorker {
    return new StreamWorker(redis, this.service, {
      commitIntervalMs: 50,
      abandonAfterMs: 100,
      drainMs: 500,
      logger: pino({ level: 'silent' }),
      ...options,
      client: { consumerId: name, heartbeatTtlMs: 10_000, lbsIdleTimeMs: 20_000, ...options.client },
    })
  }

  start(name: string, options: WorkerOptions, redis?: Redis): Running {
    const worker = this.worker(name, options, redis)
    const events: SeenEvent[] = []
    for (const event of EVENTS) {
      worker.on(event, (facts: object) => {
        events.push(facts instanceof Error ? { event, error: facts } : { ...facts, event })
      })
    }
    const started = { worker, events, running: worker.run() }
    started.running.catch(() => undefined)
    this.#started.push(started)
    return started
  }

  /** A client whose connections can be cut and frozen. */
  async proxied(): Promise<{ proxy: TcpProxy; redis: Redis }> {
    const proxy = await TcpProxy.listen(this.server)
    this.#proxies.push(proxy)
    return { proxy, redis: this.server.client({ port: proxy.port, retryStrategy: () => 20 }) }
  }

  /** The position the service has committed for a stream, null if there is none. */
  async committed(stream: string): Promise<string | null> {
    const text = await this.redis.hget(`${this.service}-checkpoints`, stream)
    return text === null ? null : (JSON.parse(text) as { id: string }).id
  }

  async committedIs(stream: string, id: string | undefined): Promise<void> {
    await eventually(
      `${stream} is committed up to ${id}`,
      () => this.committed(stream),
      (seen) => seen === id,
      { timeoutMs: 15_000 },
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const proxy of this.#proxies) proxy.thaw()
    this.server.resume()
    await Promise.all(this.#started.map(({ worker }) => worker.close()))
    for (const proxy of this.#proxies) await proxy[Symbol.asyncDispose]()
    await this.server[Symbol.asyncDispose]()
  }
}

/** Waits for an event, with what was seen in the report. */
export async function seen(
  { events }: Running,
  event: keyof WorkerEvents,
  isWanted: (facts: SeenEvent) => boolean = () => true,
): Promise<SeenEvent> {
  await eventually(
    `the event ${event}`,
    () => events.map((each) => each.event),
    () => events.some((each) => each.event === event && isWanted(each)),
    { timeoutMs: 15_000 },
  )
  return events.find((each) => each.event === event && isWanted(each)) as SeenEvent
}

/** Remembers the records a handler saw. */
export class Handled {
  readonly ids: Map<string, string[]> = new Map()

  note(stream: string, id: string): void {
    const ids = this.ids.get(stream)
    if (ids === undefined) this.ids.set(stream, [id])
    else ids.push(id)
  }

  of(stream: string): string[] {
    return this.ids.get(stream) ?? []
  }

  async has(stream: string, count: number): Promise<string[]> {
    await eventually(
      `${count} records of ${stream}`,
      () => this.of(stream).length,
      (length) => length >= count,
      { timeoutMs: 15_000 },
    )
    return this.of(stream)
  }
}
