/**
 * Whatever records, handlers and owners do: every record is handled or among the dead letters, none is passed over, and
 * bytes stay what they were. fast-check draws what happens and shows the shortest case that fails.
 */
import { eventually } from '@redis-stream-client/test/support/eventually'
import {
  BatchError,
  NonRetryableError,
  type RecordContext,
  RecordProducer,
  type StreamRecord,
} from '@redis-stream-client/worker'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { WorkerOptions } from '../src/contract/worker-options.js'
import { type Running, World } from './support/world.js'

const STREAMS = 3
const RETRY = { attempts: 4, initialDelayMs: 1, maxDelayMs: 2, jitter: 0 }
/** Long enough for a loaded machine, short enough to be lost in a test. */
const TTL_MS = 1000

/** How often a record fails before it is handled; one that is hopeless never is. */
type Fate = 'good' | 'once' | 'twice' | 'hopeless'
/** What a batch says of the record at which it fails: nothing, its index, or how far it had come. */
type Blame = 'none' | 'index' | 'through'
type Action =
  | { readonly type: 'pause' | 'resume'; readonly stream: number; readonly keep: boolean }
  | { readonly type: 'hand over' | 'crash' }

interface Plan {
  readonly records: readonly { readonly stream: number; readonly payload: Uint8Array; readonly fate: Fate }[]
  readonly batches: Blame | null
  readonly actions: readonly Action[]
}

const stream = fc.nat(STREAMS - 1)
const record = fc.record({
  stream,
  payload: fc.uint8Array({ maxLength: 24 }),
  fate: fc.oneof(
    { weight: 12, arbitrary: fc.constant<Fate>('good') },
    { weight: 2, arbitrary: fc.constantFrom<Fate>('once', 'twice') },
    { weight: 1, arbitrary: fc.constant<Fate>('hopeless') },
  ),
})
const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ type: fc.constantFrom('pause' as const, 'resume' as const), stream, keep: fc.boolean() }),
  fc.record({ type: fc.constantFrom('hand over' as const, 'crash' as const) }),
)
const plans: fc.Arbitrary<Plan> = fc.record({
  records: fc.array(record, { minLength: 20, maxLength: 120 }),
  batches: fc.constantFrom<Blame | null>(null, 'none', 'index', 'through'),
  actions: fc.array(action, { maxLength: 5 }),
})

interface Added {
  readonly id: string
  readonly fate: Fate
  readonly payload: Buffer
}

/** What the handlers of all owners did. Former owners are kept out by their fence, as in a real store. */
class Ledger {
  readonly problems: string[] = []
  readonly handled = new Map<string, Buffer>()
  readonly #failures = new Map<string, number>()
  readonly #tried = new Set<string>()
  readonly #fences = new Map<string, number>()
  readonly #records: ReadonlyMap<string, readonly Added[]>

  constructor(records: ReadonlyMap<string, readonly Added[]>) {
    this.#records = records
  }

  handle(
    { bytes, dataStreamName, id, key }: { bytes: Buffer; dataStreamName: string; id: string; key: string },
    fence: number,
  ): void {
    if (fence < (this.#fences.get(dataStreamName) ?? 0)) throw new Error('a former owner')
    this.#fences.set(dataStreamName, fence)
    const records = this.#records.get(dataStreamName) ?? []
    const index = records.findIndex((each) => each.id === id)
    for (const earlier of records.slice(0, index)) {
      if (!this.#tried.has(keyOf(dataStreamName, earlier.id))) {
        this.problems.push(`${key} before ${earlier.id}`)
      }
    }
    this.#tried.add(key)
    const { fate, payload } = records[index] as Added
    if (!bytes.equals(payload)) this.problems.push(`${key} has other bytes`)
    if (fate === 'hopeless') throw new NonRetryableError('hopeless')
    const failures = this.#failures.get(key) ?? 0
    if (failures < TIMES[fate]) {
      this.#failures.set(key, failures + 1)
      throw new Error('not yet')
    }
    this.handled.set(key, bytes)
  }
}

const TIMES = { good: 0, once: 1, twice: 2 }

function keyOf(dataStreamName: string, id: string): string {
  return `${dataStreamName} ${id}`
}

function handlerOf(ledger: Ledger, batches: Blame | null): WorkerOptions {
  const handle = (each: StreamRecord, { stream: { fencingToken } }: RecordContext): void =>
    ledger.handle(
      {
        bytes: each.bytes('payload'),
        dataStreamName: each.dataStreamName,
        id: each.id,
        key: keyOf(each.dataStreamName, each.id),
      },
      fencingToken,
    )
  if (batches === null) return { process: async (each, context) => handle(each, context) }
  return {
    batchSize: 7,
    processBatch: async (records, context) => {
      for (const [index, each] of records.entries()) {
        try {
          handle(each, context)
        } catch (error) {
          throw batches === 'index' ? new BatchError(index, error) : error
        }
        if (batches === 'through') context.through(each)
      }
    },
  }
}

async function play({ actions, batches, records }: Plan): Promise<void> {
  await using world = await World.start()
  const producer = new RecordProducer(world.redis, world.service)
  const added = new Map<string, Added[]>()
  for (const { fate, payload, stream: n } of records) {
    const name = `s${n}`
    const { id } = await producer.add(name, { payload })
    added.set(name, [...(added.get(name) ?? []), { id, fate, payload: Buffer.from(payload) }])
  }
  const ledger = new Ledger(added)
  const options: WorkerOptions = {
    retry: RETRY,
    commitEvery: 10,
    client: { heartbeatTtlMs: TTL_MS, lbsIdleTimeMs: 2 * TTL_MS },
    ...handlerOf(ledger, batches),
  }
  let workers = 0
  const { proxy, redis } = await world.proxied()
  const start = (): Running => world.start(`w${workers++}`, options, redis)
  let owner = start()
  for (const each of actions) {
    await new Promise((resolve) => setTimeout(resolve, 30))
    if ('stream' in each) {
      const name = `s${each.stream}`
      const { worker } = owner
      const done = each.type === 'pause' ? worker.pause(name, { keep: each.keep }) : worker.resume(name)
      await done.catch(() => undefined) // not owned at the moment, or not paused
    } else if (each.type === 'hand over') {
      const before = owner
      owner = start()
      await before.worker.close()
    } else {
      proxy.freeze() // its session ends, and what it still does is refused
      await new Promise((resolve) => setTimeout(resolve, 1.5 * TTL_MS))
      proxy.thaw()
      proxy.cut()
    }
  }
  for (const [name, all] of added) {
    const last = (all.at(-1) as Added).id
    await eventually(
      `${name} is committed to its end`,
      async () => {
        await owner.worker.resume(name).catch(() => undefined)
        return await world.committed(name)
      },
      (committed) => committed === last,
      { timeoutMs: 30_000 },
    )
  }
  const letters = await owner.worker.deadLetters.list({ count: 1000 })
  const dead = new Map(
    letters.map((letter) => [keyOf(letter.dataStreamName, letter.recordId), letter.rawFields]),
  )
  expect(ledger.problems).toEqual([])
  for (const [name, all] of added) {
    for (const { fate, id, payload } of all) {
      const key = keyOf(name, id)
      if (fate === 'hopeless') expect(dead.get(key)).toEqual([[Buffer.from('payload'), payload]])
      else expect(ledger.handled.get(key)).toEqual(payload)
    }
  }
  expect(letters.length).toBe([...added.values()].flat().filter(({ fate }) => fate === 'hopeless').length)
}

test('every record is handled or among the dead letters, in order, whatever fails, pauses, crashes and hands over', async () => {
  await fc.assert(fc.asyncProperty(plans, play), {
    numRuns: 16,
    interruptAfterTimeLimit: 90_000,
    markInterruptAsFailure: false,
    ...(process.env['PROPERTY_SEED'] === undefined ? {} : { seed: Number(process.env['PROPERTY_SEED']) }),
  })
}, 150_000)
