/**
 * Jobs of a few steps, one after the other in each data stream: what the client's owners work on. The steps that are
 * done are kept in a ledger, in a Redis that no fault touches.
 */
import { LbsProducer } from '@redis-stream-client/client'
import type { SeededRandom } from '@redis-stream-client/test/support/seeded-random'
import type { AcceptedCheckpoint } from './commit-watch.js'
import { type Ledger, STEPS } from './ledger.js'
import { type Violation, violation } from './violation.js'
import type { Work, WorkPlace } from './work.js'

const STREAMS = 8
const GREATEST_OUTSTANDING = 24
const MALFORMED = '{"DataStreamName":7}'

interface Job {
  readonly job: number
  readonly stream: string
  /** False if the producer got no answer: it may have been added or not. */
  isConfirmed: boolean
}

export interface JobsContext extends WorkPlace {
  readonly ledger: Ledger
  readonly random: SeededRandom
  /** Producers wait for a replica for so long; 0: they do not. */
  readonly replicaTimeoutMs: number
  readonly endMs: number
}

export class Jobs implements Work {
  readonly program = 'worker'
  readonly withoutFaults: readonly string[] = []
  readonly endMs: number
  readonly #context: JobsContext
  readonly #producer: LbsProducer
  readonly #jobs = new Map<number, Job>()
  readonly #stepsDone = new Map<number, Set<number>>()
  readonly #stepsRead = new Map<string, number>()
  #nextJob = 1
  #malformed = 0
  #lost = 0
  #commits = 0

  constructor(context: JobsContext) {
    this.#context = context
    this.endMs = context.endMs
    this.#producer = new LbsProducer(context.redis, context.service)
  }

  get counts(): Record<string, number> {
    const jobs = [...this.#jobs.values()]
    return {
      added: jobs.filter(({ isConfirmed }) => isConfirmed).length + this.#lost,
      unanswered: jobs.filter(({ isConfirmed }) => !isConfirmed).length - this.#lost,
      done: [...this.#jobs.keys()].filter((job) => this.#isDone(job)).length,
      lostByRedis: this.#lost,
      malformed: this.#malformed,
      commits: this.#commits,
    }
  }

  /** Adds a job to one of the data streams, now and then twice, now and then nonsense beside it. */
  async produce(): Promise<void> {
    if (this.#unfinished().length >= GREATEST_OUTSTANDING) {
      await this.read()
      return
    }
    const { random, redis, service } = this.#context
    await this.#addJob(`stream-${Math.floor(random.between(0, STREAMS))}`)
    if (random.chance(0.03)) {
      await redis.xadd(`${service}-input`, '*', 'lbs-input', MALFORMED).then(
        () => this.#malformed++,
        () => undefined,
      )
    }
  }

  addHanging(streamNumber: number): Promise<number> {
    return this.#addJob(`hanging-${streamNumber}`, { hangs: true })
  }

  async read(): Promise<boolean> {
    let isNew = false
    const streams = new Set([...this.#jobs.values()].map(({ stream }) => stream))
    for (const stream of streams) {
      const from = this.#stepsRead.get(stream) ?? 0
      const steps = await this.#context.ledger.steps(stream, from)
      this.#stepsRead.set(stream, from + steps.length)
      isNew ||= steps.length > 0
      for (const { job, step } of steps) {
        const done = this.#stepsDone.get(job) ?? new Set()
        this.#stepsDone.set(job, done.add(step))
      }
    }
    return isNew
  }

  progress(): ReadonlyMap<string, number> {
    return new Map(this.#stepsRead)
  }

  outstanding(): ReadonlyMap<string, readonly string[]> {
    const left = new Map<string, string[]>()
    for (const { job, stream } of this.#unfinished()) {
      left.set(stream, [...(left.get(stream) ?? []), `job ${job}`])
    }
    return left
  }

  async noteLoss(): Promise<void> {
    if (this.#context.replicaTimeoutMs > 0) return
    await this.read()
    const left = await this.#jobsInRedis()
    for (const entry of this.#unfinished()) {
      if (left.has(entry.job)) continue
      entry.isConfirmed = false
      this.#lost++
    }
  }

  async leftovers(): Promise<string[]> {
    return []
  }

  async readResults(): Promise<void> {}

  /** No commit under an old fence is accepted after one under a newer fence. */
  async violations(accepted: readonly AcceptedCheckpoint[]): Promise<Violation[]> {
    this.#commits = accepted.filter(({ checkpoint }) => checkpoint !== null).length
    return findStaleCommits(accepted)
  }

  async #addJob(stream: string, info: { hangs?: boolean } = {}): Promise<number> {
    const { ledger, random } = this.#context
    const job = this.#nextJob++
    await ledger.addRecords(job)
    const entry: Job = { job, stream, isConfirmed: false }
    this.#jobs.set(job, entry)
    const times = random.chance(0.1) ? 2 : 1
    for (let time = 0; time < times; time++) {
      const isConfirmed = await this.#add(stream, { job, ...info }).catch(() => false)
      entry.isConfirmed ||= isConfirmed // otherwise added or not: nothing is promised
    }
    return job
  }

  /** Answers whether it is promised that the entry stays. */
  async #add(stream: string, info: { readonly job: number }): Promise<boolean> {
    const { connects, redis, replicaTimeoutMs } = this.#context
    const before = connects()
    await this.#producer.add(stream, info)
    if (replicaTimeoutMs === 0) return true
    const replicas = await redis.wait(1, replicaTimeoutMs)
    return replicas > 0 && before === connects() // another connection knows nothing of the entry
  }

  #unfinished(): Job[] {
    return [...this.#jobs.values()].filter(({ job, isConfirmed }) => isConfirmed && !this.#isDone(job))
  }

  #isDone(job: number): boolean {
    return this.#stepsDone.get(job)?.size === STEPS
  }

  async #jobsInRedis(): Promise<Set<number>> {
    const { redis, service } = this.#context
    const entries = await redis.xrange(`${service}-input`, '-', '+')
    const texts = entries.map(([, fields]) => fields.join(' '))
    for (const key of await redis.keys(`${service}-backlog:*`)) {
      texts.push(...(await redis.lrange(key, 0, -1)))
    }
    for (const key of await redis.keys(`${service}-late:*`)) {
      texts.push(...(await redis.zrange(key, '0', '-1')))
    }
    return new Set(texts.flatMap((text) => (/job\W+(\d+)/.exec(text)?.slice(1) ?? []).map(Number)))
  }
}

/** Commits under a fence below one that was accepted before. */
export function findStaleCommits(accepted: readonly AcceptedCheckpoint[]): Violation[] {
  const violations: Violation[] = []
  const greatest = new Map<string, number>()
  for (const { checkpoint, stream } of accepted) {
    if (checkpoint === null) continue
    const { fence, job } = JSON.parse(checkpoint) as { fence: number; job: number }
    const last = greatest.get(stream) ?? 0
    if (fence < last) {
      const text = `a commit to ${stream} (job ${job}) under ${fence} was accepted after ${last}`
      violations.push(violation('stale commit', text))
    }
    greatest.set(stream, Math.max(last, fence))
  }
  return violations
}
