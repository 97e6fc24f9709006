/**
 * What the work amounts to: a Redis of its own that no fault reaches. Workers write each step of a job to the list of
 * its data stream; a step under a fence lower than one seen before is refused, as any storage should that fencing protects.
 */
import type { Redis } from 'ioredis'

export const STEPS = 4

/** KEYS 1 greatest fence  2 list of steps. ARGV 1 fence  2 job  3 step  4 worker. Returns 1 if written, else 0. */
const APPEND = `
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) < last then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('RPUSH', KEYS[2], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return 1`

export interface LedgerStep {
  readonly fence: number
  readonly job: number
  readonly step: number
}

export class Ledger {
  readonly #redis: Redis

  constructor(redis: Redis) {
    this.#redis = redis
  }

  /** The records of a job, which its worker reads one by one. */
  async addRecords(job: number): Promise<void> {
    const pipeline = this.#redis.pipeline()
    for (let step = 0; step < STEPS; step++) pipeline.xadd(`records:${job}`, `0-${step + 1}`, 'job', job)
    await pipeline.exec()
  }

  async readRecord(job: number, step: number): Promise<void> {
    const id = `0-${step + 1}`
    const [record] = await this.#redis.xrange(`records:${job}`, id, id)
    if (record === undefined) throw new Error(`job ${job} has no record ${step}`)
  }

  /** Jobs that go on as long as they may are to be finished from now on. */
  async conclude(): Promise<void> {
    await this.#redis.set('concluded', '1')
  }

  async isConcluded(): Promise<boolean> {
    return (await this.#redis.exists('concluded')) === 1
  }

  async finish(dataStreamName: string): Promise<void> {
    await this.#redis.set(`finished:${dataStreamName}`, '1')
  }

  async isFinished(dataStreamName: string): Promise<boolean> {
    return (await this.#redis.exists(`finished:${dataStreamName}`)) === 1
  }

  /** True for the first who asks: only one owner of a job hangs. */
  async mayHang(job: number): Promise<boolean> {
    return (await this.#redis.set(`hung:${job}`, '1', 'NX')) === 'OK'
  }

  /** False if somebody has written under a greater fence. */
  async append(dataStreamName: string, step: LedgerStep, worker: string): Promise<boolean> {
    const keys = [`fence:${dataStreamName}`, `steps:${dataStreamName}`]
    const args = [step.fence, step.job, step.step, worker].map(String)
    return (await this.#redis.eval(APPEND, keys.length, ...keys, ...args)) === 1
  }

  /** The steps of a data stream from an index on, in the order in which they were written. */
  async steps(dataStreamName: string, from: number): Promise<LedgerStep[]> {
    const lines = await this.#redis.lrange(`steps:${dataStreamName}`, from, -1)
    return lines.map((line) => {
      const [fence = 0, job = 0, step = 0] = line.split(' ').map(Number)
      return { fence, job, step }
    })
  }
}
