/**
 * What has been added in a simulation and what became of it, in the order of the server; the place where the
 * invariants of SPEC.md are checked. What is wrong is written down, the first of it counts.
 */
import type { ServiceKeys } from '../../src/service-keys.js'
import { type Fields, type ModelData, orderOf } from './model-data.js'
import type { ScriptWatch } from './model-scripts.js'

type JobState = 'open' | 'done' | 'dead' | 'deleted'

interface Job {
  readonly stream: string
  state: JobState
  /** The number of the last commit its owner knows of. */
  committed: number
}

/** Who believes to own a stream at this moment, by the names of their consumers. */
export type Believers = (stream: string) => readonly string[]

export class Ledger implements ScriptWatch {
  readonly violations: string[] = []
  readonly #keys: ServiceKeys
  readonly #data: () => ModelData
  readonly #believers: Believers
  readonly #nowMs: () => number
  /** Checkpoints say of which job they are and how many there were before: `<job>:<number>`. */
  readonly #hasCheckpoints: boolean
  readonly #jobs = new Map<number, Job>()
  /** The greatest fence each stream has had, and the one of its present owner. */
  readonly #greatest = new Map<string, number>()
  readonly #present = new Map<string, number>()
  #lenientUntilMs = 0
  #isDirty = false
  /** Claims that were won since a moment, and how many takes there were in all. */
  takes = 0

  constructor(
    keys: ServiceKeys,
    data: () => ModelData,
    believers: Believers,
    nowMs: () => number,
    { hasCheckpoints = true }: { readonly hasCheckpoints?: boolean } = {},
  ) {
    this.#hasCheckpoints = hasCheckpoints
    this.#keys = keys
    this.#data = data
    this.#believers = believers
    this.#nowMs = nowMs
  }

  add(stream: string): number {
    const number = this.#jobs.size
    this.#jobs.set(number, { stream, state: 'open', committed: 0 })
    return number
  }

  /** Somebody else has deleted the entry of a job. */
  deleted(number: number): void {
    const job = this.#jobs.get(number)
    if (job?.state === 'open') job.state = 'deleted'
  }

  /** The owner of a job knows that a commit was kept. */
  committedOf(number: number, count: number): void {
    const job = this.#jobs.get(number)
    if (job !== undefined) job.committed = Math.max(job.committed, count)
  }

  get open(): number[] {
    return [...this.#jobs].filter(([, { state }]) => state === 'open').map(([number]) => number)
  }

  fail(problem: string): void {
    this.violations.push(`${this.#nowMs().toFixed(1)} ms: ${problem}`)
  }

  /**
   * The server has come back without some of what it had acknowledged: two may own for one TTL, and what is not
   * there any more is nobody's fault. Fences grow all the same.
   */
  forgive(ttlMs: number): void {
    this.#lenientUntilMs = this.#nowMs() + ttlMs
    this.#present.clear()
    const there = this.#numbersThere()
    for (const [number, job] of this.#jobs) {
      job.state = there.has(number) ? 'open' : job.state === 'open' ? 'deleted' : job.state
      job.committed = 0
    }
  }

  taken(stream: string, id: string, fence: number, consumer: string): void {
    this.takes++
    if (fence <= (this.#greatest.get(stream) ?? 0)) {
      this.fail(`${stream} was given the fence ${fence}, not greater than that of an earlier owner`)
    }
    this.#greatest.set(stream, fence)
    this.#present.set(stream, fence)
    if (this.#isLenient) return
    const others = this.#believers(stream).filter((other) => other !== consumer)
    if (others.length > 0) this.fail(`${stream} was given to ${consumer} while ${others.join()} owned it`)
    if (this.#hasCheckpoints) this.#checkCheckpoint(stream, id)
  }

  /** The heartbeat key of a session has run out: from now on others may have what it owned. */
  sessionExpired(consumer: string): void {
    if (this.#isLenient) return
    for (const stream of new Set([...this.#jobs.values()].map((job) => job.stream))) {
      if (!this.#believers(stream).includes(consumer)) continue
      this.fail(`the key of ${consumer} has run out while it trusted itself as owner of ${stream}`)
    }
  }

  committed(stream: string, fence: number): void {
    this.#checkFence('commit', stream, fence)
  }

  finished(stream: string, id: string, fence: number, fields: Fields): void {
    this.#checkFence('done', stream, fence)
    const number = numberOf(fields)
    const job = this.#jobs.get(number)
    if (job?.state !== 'open') this.fail(`job ${number} (${id}) was finished, but it is ${job?.state}`)
    else if (job.stream !== stream)
      this.fail(`job ${number} of ${job.stream} was finished as one of ${stream}`)
    if (job !== undefined) job.state = 'done'
    this.#isDirty = true
  }

  buried(_id: string, fields: Fields): void {
    const job = this.#jobs.get(numberOf(fields))
    if (job?.state === 'open') job.state = 'dead'
    else this.fail(`job ${numberOf(fields)} went to the dead letters, but it is ${job?.state}`)
    this.#isDirty = true
  }

  queued(): void {
    this.#isDirty = true
  }

  /** What is pending under a living session is moved by that session alone, and to no session that is over. */
  moved(id: string, from: string, to: string, by: string): void {
    if (this.#isLenient) return
    if (from !== by && this.#isSession(from))
      this.fail(`${id} was moved from ${from}, who is alive, by ${by}`)
    if (!to.startsWith('pool') && !this.#isSession(to))
      this.fail(`${id} was dealt to ${to}, whose session is over`)
  }

  #isSession(consumer: string): boolean {
    const colon = consumer.lastIndexOf(':')
    return this.#data().get(this.#keys.heartbeat(consumer.slice(0, colon))) === consumer.slice(colon + 1)
  }

  readded(): void {
    this.#isDirty = true
  }

  /** After every command: what no command may leave behind. */
  check(): void {
    if (!this.#isDirty) return
    this.#isDirty = false
    const data = this.#data()
    for (const stream of new Set([...this.#jobs.values()].map((job) => job.stream))) {
      const waiting = data.lrange(this.#keys.backlog(stream))
      const late = data.zrange(this.#keys.late(stream))
      if (waiting.length + late.length === 0) continue
      if (data.hget(this.#keys.locks, stream) === null) this.fail(`${stream} has a backlog and no record`)
      const orders = waiting.map((item) => orderOf((JSON.parse(item) as string[])[0] as string))
      if (orders.some((order, index) => order <= (orders[index - 1] ?? 0))) {
        this.fail(`the backlog of ${stream} is not in order`)
      }
    }
    this.checkNothingLost()
  }

  /** Every open job is in the LBS or in a backlog. */
  checkNothingLost(): void {
    const there = this.#numbersThere()
    for (const [number, { state, stream }] of this.#jobs) {
      if (state === 'open' && !there.has(number)) this.fail(`job ${number} of ${stream} is lost`)
    }
  }

  get #isLenient(): boolean {
    return this.#nowMs() < this.#lenientUntilMs
  }

  /** What an owner finds committed is of the same job, and not older than what an earlier one was told is kept. */
  #checkCheckpoint(stream: string, id: string): void {
    const fields = this.#data().xget(this.#keys.lbs, id)
    if (fields === null) return
    const number = numberOf(fields)
    const checkpoint = this.#data().hget(this.#keys.checkpoints, stream)
    const committed = this.#jobs.get(number)?.committed ?? 0
    const [job, count] = (checkpoint ?? `${number}:0`).split(':').map(Number) as [number, number]
    if (job !== number) this.fail(`job ${number} of ${stream} was given a checkpoint of job ${job}`)
    else if (count < committed) {
      this.fail(`job ${number} of ${stream} was given checkpoint ${count} after ${committed} was kept`)
    }
  }

  #checkFence(operation: string, stream: string, fence: number): void {
    const present = this.#present.get(stream) ?? fence
    if (fence !== present) this.fail(`${operation} of ${stream} was accepted under ${fence}, not ${present}`)
  }

  #numbersThere(): Set<number> {
    const data = this.#data()
    const numbers = new Set<number>()
    for (const { fields } of data.xall(this.#keys.lbs)) numbers.add(numberOf(fields))
    for (const { stream } of this.#jobs.values()) {
      for (const item of data.lrange(this.#keys.backlog(stream))) {
        numbers.add(numberOf(JSON.parse(item) as string[]))
      }
      for (const member of data.zrange(this.#keys.late(stream))) {
        numbers.add(numberOf(JSON.parse(member.slice(member.indexOf(' ') + 1)) as string[]))
      }
    }
    return numbers
  }
}

/** The number of a job, from the fields of its entry, readable or not. */
export function numberOf(fields: Fields): number {
  return Number(/"n":(\d+)/.exec(fields.join(' '))?.[1] ?? -1)
}
