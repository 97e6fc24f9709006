/** Payments that come in through Redis, and the services that book them, as processes that can be killed and stopped. */
import { eventually } from '@redis-stream-client/test/support/eventually'
import { Program } from '@redis-stream-client/test/support/processes'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { RecordProducer } from '@redis-stream-client/worker'
import type { Redis } from 'ioredis'

const ACCOUNTS = ['ada', 'bob', 'cem']

/** For what takes processes to start and leases to end, on a busy machine. */
export const PATIENT: { readonly timeoutMs: number } = { timeoutMs: 60_000 }

/** Waits until a service works on a stream, from this position on. */
export async function startsAt(service: Program, position: string): Promise<void> {
  await service.nextLine((line) => line['position'] === position, PATIENT.timeoutMs)
}

/** Amounts by account. */
export type Balances = Readonly<Record<string, number>>

export class Payments implements AsyncDisposable {
  readonly redis: Redis
  readonly server: RedisServer
  readonly expected: Record<string, number> = {}
  readonly #programs: Program[] = []
  #paid = 0

  private constructor(server: RedisServer) {
    this.server = server
    this.redis = server.client()
  }

  static async start(): Promise<Payments> {
    return new Payments(await RedisServer.start())
  }

  /** Adds so many payments for each account, each with another amount. */
  async pay(count: number): Promise<void> {
    const producer = new RecordProducer(this.redis, 'payments')
    for (const account of ACCOUNTS) {
      const amounts = Array.from({ length: count }, () => ++this.#paid)
      for (const amount of amounts) this.expected[account] = (this.expected[account] ?? 0) + amount
      await producer.addMany(
        `payments-of-${account}`,
        amounts.map((amount) => ({ fields: { account, amount } })),
      )
    }
  }

  /** Starts one of the examples. None commits to Redis before it ends, so that after a kill everything comes again. */
  run(program: string, name: string, env: Readonly<Record<string, string>>): Program {
    const file = new URL(`../../dist/exactly-once/${program}.js`, import.meta.url)
    const all = { POD_NAME: name, REDIS_URL: this.server.url, COMMIT_INTERVAL_MS: '600000', ...env }
    const started = Program.start(file, { env: all })
    this.#programs.push(started)
    return started
  }

  /** What is committed in Redis. */
  async checkpoints(): Promise<Readonly<Record<string, string>>> {
    return await this.redis.hgetall('payments-checkpoints')
  }

  /** Waits until no record is left that a service has not handled, whether it had been booked before or not. */
  async areHandled(): Promise<void> {
    await eventually('every record was handled', () => this.#isHandled(), Boolean, PATIENT)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.kill()))
    await this.server[Symbol.asyncDispose]()
  }

  async #isHandled(): Promise<boolean> {
    const checkpoints = await this.checkpoints()
    for (const account of ACCOUNTS) {
      const [last] = await this.redis.xrevrange(`payments-of-${account}`, '+', '-', 'COUNT', 1)
      const { id } = JSON.parse(checkpoints[`payments-of-${account}`] ?? '{}') as { id?: string }
      if (id !== last?.[0]) return false
    }
    return true
  }
}
