/**
 * Records of data streams, which StreamWorkers work through. Each stream gets some dozens, one after the other. Each record
 * is sent again under its idempotency key until Redis has answered. The last one is marked as such, and then another stream
 * takes the place of this one. Streams that get no record for a while end as idle, and the next record assigns them again.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { SeededRandom } from '@redis-stream-client/test/support/seeded-random'
import { RecordProducer } from '@redis-stream-client/worker'
import type { AcceptedCheckpoint } from './commit-watch.js'
import type { Handling, Handlings } from './handlings.js'
import { findFallenPositions, findRecordViolations, type StreamEvidence } from './record-checker.js'
import { CLOSE_MS, effectsKey, hasEffects, streamName } from './record-rules.js'
import type { Violation } from './violation.js'
import type { Work, WorkPlace } from './work.js'

const OPEN_STREAMS = 6
const RECORDS = [20, 150] as const
/** Records of one stream that may wait: beyond this it gets no more until some are handled. */
const GREATEST_OUTSTANDING = 20
const AGAIN_MS = 20

interface DataStream {
  readonly name: string
  /** It ends with this record. */
  readonly total: number
  added: number
  /** A record is on its way. */
  isBusy: boolean
  readonly handlings: Handling[]
  readonly ended: Set<number>
  /** What Redis has lost. */
  readonly lost: Set<number>
  effects: number[] | null
  dead: number[] | null
}

export interface RecordsContext extends WorkPlace {
  readonly handlings: Handlings
  readonly random: SeededRandom
}

export class Records implements Work {
  readonly program = 'record-worker'
  /** Its notifications are read by the worker. */
  readonly withoutFaults: readonly string[] = ['unread']
  readonly endMs: number = CLOSE_MS
  readonly #context: RecordsContext
  readonly #producer: RecordProducer
  readonly #streams = new Map<string, DataStream>()
  readonly #open: DataStream[] = []
  #keepsAcknowledged = true
  #retries = 0

  constructor(context: RecordsContext) {
    this.#context = context
    this.#producer = new RecordProducer(context.redis, context.service)
    for (let place = 0; place < OPEN_STREAMS; place++) this.#open.push(this.#newStream())
  }

  get counts(): Record<string, number> {
    const streams = [...this.#streams.values()]
    const sum = (of: (stream: DataStream) => number): number =>
      streams.reduce((total, stream) => total + of(stream), 0)
    return {
      streams: streams.length,
      added: sum(({ added }) => added),
      addedAgain: this.#retries,
      done: sum(({ ended }) => ended.size),
      lostByRedis: sum(({ lost }) => lost.size),
      owners: sum(({ handlings }) => new Set(handlings.map(({ fence }) => fence)).size),
      begun: sum(({ handlings }) => handlings.filter(({ step }) => step === 'begun').length),
    }
  }

  async produce(): Promise<void> {
    const { random } = this.#context
    const place = Math.floor(random.between(0, OPEN_STREAMS))
    const stream = this.#open[place] as DataStream
    if (stream.isBusy || outstandingOf(stream).length >= GREATEST_OUTSTANDING) {
      await this.read()
      return
    }
    if (stream.added + 1 === stream.total) this.#open[place] = this.#newStream()
    await this.#addNext(stream)
  }

  async addHanging(streamNumber: number): Promise<number> {
    await this.#addNext(this.#newStream(1, `hanging-${streamNumber}`), { hanging: streamNumber })
    return streamNumber
  }

  async read(): Promise<boolean> {
    return await this.#read([...this.#streams.values()].filter((stream) => !isThrough(stream)))
  }

  progress(): ReadonlyMap<string, number> {
    return new Map([...this.#streams.values()].map(({ handlings, name }) => [name, handlings.length]))
  }

  outstanding(): ReadonlyMap<string, readonly string[]> {
    const left = [...this.#streams.values()].map(
      (stream) => [stream.name, outstandingOf(stream).map((n) => `record ${n}`)] as const,
    )
    return new Map(left.filter(([, records]) => records.length > 0))
  }

  async noteLoss(): Promise<void> {
    this.#keepsAcknowledged = false
    await this.read()
    for (const stream of this.#streams.values()) {
      const outstanding = outstandingOf(stream)
      if (outstanding.length === 0) continue
      const entries = await this.#context.redis.xrange(stream.name, '-', '+')
      const left = new Set(entries.map(([, fields]) => numberIn(fields)))
      for (const n of outstanding) if (!left.has(n)) stream.lost.add(n)
    }
  }

  async leftovers(): Promise<string[]> {
    const { redis } = this.#context
    const left: string[] = []
    for (const { name } of this.#streams.values()) {
      if ((await redis.exists(name)) > 0) left.push(`the data stream ${name}`)
    }
    return left
  }

  async readResults(): Promise<void> {
    const { redis, service } = this.#context
    const letters = await redis.xrange(`${service}-dead-records`, '-', '+')
    const deadOf = new Map<string, number[]>()
    for (const [, fields] of letters) {
      const stream = fields[fields.indexOf('stream') + 1] as string
      const record = JSON.parse(fields[fields.indexOf('fields') + 1] as string) as string[]
      deadOf.set(stream, [...(deadOf.get(stream) ?? []), numberIn(record)])
    }
    for (const stream of this.#streams.values()) {
      stream.dead = deadOf.get(stream.name) ?? []
      if (!hasEffects(stream.name)) continue
      stream.effects = await this.#effectsOf(stream.name)
    }
  }

  async violations(accepted: readonly AcceptedCheckpoint[]): Promise<Violation[]> {
    const keeps = this.#keepsAcknowledged
    const streams = [...this.#streams.values()]
    await this.#read(streams) // also late reports about streams that were finished
    const found = streams.flatMap((stream) => findRecordViolations(evidenceOf(stream), keeps))
    return keeps ? [...found, ...findFallenPositions(accepted)] : found
  }

  async #read(streams: readonly DataStream[]): Promise<boolean> {
    let isNew = false
    for (const stream of streams) {
      const { ended, handlings, name } = stream
      const from = handlings.length
      const more = await this.#context.handlings.read(name, from)
      isNew ||= more.length > 0
      if (handlings.length !== from) continue // somebody else has read them meanwhile
      handlings.push(...more)
      for (const { n, step } of more) if (step === 'handled' || step === 'doomed') ended.add(n)
      if (more.length === 0) isNew = (await this.#readEffects(stream)) || isNew
    }
    return isNew
  }

  /** A worker may be killed after its transaction and before it reports that: then only the effects show it. */
  async #readEffects({ added, ended, name }: DataStream): Promise<boolean> {
    if (!hasEffects(name) || ended.size >= added) return false
    const effects = await this.#effectsOf(name).catch(() => [])
    const before = ended.size
    for (const n of effects) ended.add(n)
    return ended.size > before
  }

  async #effectsOf(name: string): Promise<number[]> {
    return (await this.#context.redis.lrange(effectsKey(name), 0, -1)).map(Number)
  }

  #newStream(total?: number, name?: string): DataStream {
    const number = this.#streams.size
    const stream: DataStream = {
      name: name ?? streamName(number),
      total: total ?? Math.floor(this.#context.random.between(...RECORDS)),
      added: 0,
      isBusy: false,
      handlings: [],
      ended: new Set(),
      lost: new Set(),
      effects: null,
      dead: null,
    }
    this.#streams.set(stream.name, stream)
    return stream
  }

  async #addNext(stream: DataStream, more: Record<string, number> = {}): Promise<void> {
    const n = stream.added + 1
    const last = n === stream.total ? 1 : 0
    stream.isBusy = true
    for (;;) {
      try {
        await this.#producer.add(stream.name, { n, last, ...more }, { idempotencyKey: String(n) })
        stream.added = n
        stream.isBusy = false
        return
      } catch {
        if (this.#context.isClosed()) return
        this.#retries++
        await sleep(AGAIN_MS)
      }
    }
  }
}

/** True if nothing more will be handled. */
function isThrough({ added, ended, total }: DataStream): boolean {
  return added === total && ended.size >= total
}

function evidenceOf({ added, dead, effects, handlings, name }: DataStream): StreamEvidence {
  return { name, added, dead, effects, handlings }
}

function outstandingOf({ added, ended, lost }: DataStream): number[] {
  const left: number[] = []
  for (let n = 1; n <= added; n++) if (!ended.has(n) && !lost.has(n)) left.push(n)
  return left
}

function numberIn(fields: readonly string[]): number {
  return Number(fields[fields.indexOf('n') + 1])
}
