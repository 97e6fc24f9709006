/**
 * Streams that nobody finishes as long as faults go on, so that clients have something to share: each is one job of as
 * many steps as there is time for.
 */
import { LbsProducer } from '@redis-stream-client/client'
import type { AcceptedCheckpoint } from './commit-watch.js'
import { findStaleCommits } from './jobs.js'
import type { Ledger } from './ledger.js'
import type { Violation } from './violation.js'
import type { Work, WorkPlace } from './work.js'

const STREAMS = 24

export interface SharesContext extends WorkPlace {
  readonly ledger: Ledger
  readonly endMs: number
}

export class Shares implements Work {
  readonly program = 'worker'
  readonly withoutFaults: readonly string[] = ['hang', 'twin', 'unread']
  readonly endMs: number
  readonly #context: SharesContext
  readonly #producer: LbsProducer
  readonly #streams: string[] = []
  readonly #steps = new Map<string, number>()
  readonly #done = new Set<string>()
  #commits = 0

  constructor(context: SharesContext) {
    this.#context = context
    this.endMs = context.endMs
    this.#producer = new LbsProducer(context.redis, context.service)
  }

  get counts(): Record<string, number> {
    const steps = [...this.#steps.values()].reduce((sum, count) => sum + count, 0)
    return { streams: this.#streams.length, done: this.#done.size, steps, commits: this.#commits }
  }

  /** Adds a stream, until there are as many as there should be. */
  async produce(): Promise<void> {
    const job = this.#streams.length + 1
    if (job > STREAMS) return void (await this.read())
    const stream = `long-${job}`
    this.#streams.push(stream)
    await this.#producer.add(stream, { job, isLong: true })
  }

  async addHanging(): Promise<number> {
    throw new Error('nobody hangs here')
  }

  async read(): Promise<boolean> {
    let isNew = false
    for (const stream of this.#streams) {
      const from = this.#steps.get(stream) ?? 0
      const steps = await this.#context.ledger.steps(stream, from)
      this.#steps.set(stream, from + steps.length)
      isNew ||= steps.length > 0
      if (await this.#context.ledger.isFinished(stream)) this.#done.add(stream)
    }
    return isNew
  }

  progress(): ReadonlyMap<string, number> {
    return new Map(this.#steps)
  }

  outstanding(): ReadonlyMap<string, readonly string[]> {
    const left = this.#streams.filter((stream) => !this.#done.has(stream))
    return new Map(left.map((stream) => [stream, [stream]]))
  }

  async conclude(): Promise<void> {
    await this.#context.ledger.conclude()
  }

  async noteLoss(): Promise<void> {
    throw new Error('nothing may be lost here')
  }

  async leftovers(): Promise<string[]> {
    return []
  }

  async readResults(): Promise<void> {}

  async violations(accepted: readonly AcceptedCheckpoint[]): Promise<Violation[]> {
    this.#commits = accepted.filter(({ checkpoint }) => checkpoint !== null).length
    return findStaleCommits(accepted)
  }
}
