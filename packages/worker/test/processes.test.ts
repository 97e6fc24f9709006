/** Workers in processes of their own, under load, that leave in good order, are killed, and hang. */
import { fileURLToPath } from 'node:url'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { Program } from '@redis-stream-client/test/support/processes'
import { DeadLetters, RecordProducer } from '@redis-stream-client/worker'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { WorkerOptions } from '../src/contract/worker-options.js'
import { problemsOf, readLog } from './support/work-log.js'
import { World } from './support/world.js'

const PROGRAM = fileURLToPath(new URL('programs/worker.mjs', import.meta.url))

let world: World
let programs: Program[]
let load: Load | undefined

beforeEach(async () => {
  world = await World.start()
  programs = []
})
afterEach(async () => {
  await load?.stop()
  load = undefined
  await Promise.all(programs.map((program) => program.kill()))
  await world[Symbol.asyncDispose]()
})

interface Behaviour {
  readonly options?: WorkerOptions
  readonly failEvery?: number
  readonly handlerMs?: number
  readonly heartbeatTtlMs?: number
}

function spawn(name: string, { heartbeatTtlMs = 600, ...behaviour }: Behaviour = {}): Program {
  const client = { consumerId: name, heartbeatTtlMs, lbsIdleTimeMs: 2 * heartbeatTtlMs }
  const argument = JSON.stringify({ url: world.server.url, service: world.service, client, ...behaviour })
  const program = Program.start(PROGRAM, { args: [argument] })
  programs.push(program)
  return program
}

/** Adds records to some streams, one after the other, until it is told to stop. */
class Load {
  readonly ids = new Map<string, string[]>()
  readonly #producer: RecordProducer
  readonly #running: Promise<void>
  #isStopped = false

  constructor(streams: number, everyMs: number) {
    this.#producer = new RecordProducer(world.redis, world.service)
    this.#running = this.#run(streams, everyMs)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#running
  }

  async #run(streams: number, everyMs: number): Promise<void> {
    while (!this.#isStopped) {
      await Promise.all(
        Array.from({ length: streams }, async (_, n) => {
          const { id } = await this.#producer.add(`s${n}`, { a: 'b' })
          this.ids.set(`s${n}`, [...(this.ids.get(`s${n}`) ?? []), id])
        }),
      )
      await new Promise((resolve) => setTimeout(resolve, everyMs))
    }
  }
}

/** Waits until everything is committed; answers what is wrong with the logs. */
async function settle({ ids }: Load, commitEvery: number): Promise<string[]> {
  const problems: string[] = []
  for (const [stream, expected] of ids) {
    await eventually(
      `${stream} is committed to its end`,
      async () => [await world.committed(stream), expected.at(-1)],
      ([committed, last]) => committed === last,
      { timeoutMs: 20_000 },
    )
    const found = problemsOf(await readLog(world.redis, stream), expected, { commitEvery })
    problems.push(...found.map((problem) => `${stream}: ${problem}`))
  }
  return problems
}

describe('processes', () => {
  test('a rolling restart of three loses nothing, repeats nothing, and no stream waits a second', async () => {
    // Nobody is killed: a lease that ends would be the machine's fault, and bring records twice.
    const behaviour = { handlerMs: 1, heartbeatTtlMs: 5000, options: { commitEvery: 20, drainMs: 1000 } }
    const olds = ['a', 'b', 'c'].map((name) => spawn(name, behaviour))
    await Promise.all(olds.map((program) => program.nextLine((line) => line['type'] === 'started')))
    load = new Load(12, 20)
    await eventually('all streams are owned', async () => (await world.redis.hlen('orders-locks')) === 12)
    const news: Program[] = []
    for (const [n, old] of olds.entries()) {
      const successor = spawn(`new-${n}`, behaviour)
      news.push(successor)
      await successor.nextLine((line) => line['type'] === 'started')
      expect(await old.kill('SIGTERM')).toEqual({ code: 0, signal: null })
    }
    const until = Date.now() + 300
    await eventually('some more load', () => Date.now() > until)
    await load.stop()
    expect(await settle(load, 0)).toEqual([]) // 0: nothing came twice
    let greatestGapMs = 0
    for (const stream of load.ids.keys()) {
      const log = await readLog(world.redis, stream)
      log.forEach((line, n) => {
        greatestGapMs = Math.max(greatestGapMs, n === 0 ? 0 : line.atMs - (log[n - 1]?.atMs ?? 0))
      })
      expect(new Set(log.map(({ fence }) => fence)).size).toBeGreaterThan(1)
    }
    expect(greatestGapMs).toBeLessThan(1000)
  }, 60_000)

  test('a killed one is replaced, and at most commitEvery records come twice', async () => {
    const behaviour = { options: { commitEvery: 10, commitIntervalMs: 60_000 } }
    const a = spawn('a', behaviour)
    load = new Load(6, 10)
    await a.nextLine((line) => line['type'] === 'ready')
    spawn('b', behaviour)
    await eventually('a has worked', async () => (await world.redis.llen('log:s5')) > 25)
    await a.kill()
    // On a slow machine `a` may have lost its session and begun another before it was killed.
    const before = await lastFences(6)
    await eventually(
      'b works on all',
      async () => (await lastFences(6)).every((fence, n) => fence > (before[n] as number)),
      Boolean,
      { timeoutMs: 15_000 },
    )
    await load.stop()
    await closeAll()
    expect(await settle(load, 10)).toEqual([])
  }, 60_000)

  test('attempts are counted on when the process is killed between two of them', async () => {
    const retry = { attempts: 4, initialDelayMs: 500, maxDelayMs: 500, jitter: 0 }
    const behaviour = { failEvery: 1, options: { retry } }
    await world.fill('s', 1)
    const a = spawn('a', behaviour)
    await eventually(
      'the second attempt is committed',
      async () => String(await world.redis.hget('orders-checkpoints', 's')),
      (checkpoint) => checkpoint.includes('"attempts":2'),
      { timeoutMs: 15_000 },
    )
    await a.kill()
    spawn('b', behaviour)
    const deadLetters = new DeadLetters(world.redis, world.service)
    await eventually('it is buried', async () => (await deadLetters.count()) === 1, Boolean, {
      timeoutMs: 15_000,
    })
    expect(await deadLetters.list()).toMatchObject([{ attempts: 4, owner: 'redis-consumer-b' }])
    const attempts = (await readLog(world.redis, 's')).map(({ attempt }) => attempt)
    expect(attempts.slice(0, 2)).toEqual([1, 2])
    // The third may have begun before the kill; then it was not counted.
    expect(attempts.slice(-2)).toEqual([3, 4])
    expect(attempts.length).toBeLessThanOrEqual(5)
  }, 60_000)

  test('share the rate limit of their service', async () => {
    const rateLimit = { service: { records: 10, perMs: 1000 } }
    const behaviour = { heartbeatTtlMs: 5000, options: { maxOwnedStreams: 4, rateLimit } }
    const streams = Array.from({ length: 8 }, (_, n) => `s${n}`)
    for (const stream of streams) await world.fill(stream, 5)
    spawn('a', behaviour)
    spawn('b', behaviour)
    const logs = async (): Promise<number[]> => {
      const lines = await Promise.all(streams.map((stream) => readLog(world.redis, stream)))
      return lines.flat().map(({ atMs }) => atMs)
    }
    await eventually('all are handled', logs, (times) => times.length === 40, { timeoutMs: 30_000 })
    const times = (await logs()).sort((x, y) => x - y)
    // One begins at once, the others 100 ms apart. A slow machine makes it later.
    expect((times.at(-1) as number) - (times[0] as number)).toBeGreaterThan(3500)
  }, 60_000)

  test('one that hangs is replaced, and what it does afterwards changes nothing', async () => {
    const behaviour = { handlerMs: 1, options: { commitEvery: 5 } }
    const a = spawn('a', behaviour)
    load = new Load(4, 10)
    await a.nextLine((line) => line['type'] === 'ready')
    spawn('b', behaviour)
    await eventually('a has worked', async () => (await world.redis.llen('log:s3')) > 10)
    a.pause()
    await eventually(
      'b works on all',
      async () => {
        const logs = await Promise.all([0, 1, 2, 3].map((n) => readLog(world.redis, `s${n}`)))
        return logs.every((log) => new Set(log.map(({ fence }) => fence)).size >= 2)
      },
      Boolean,
      { timeoutMs: 15_000 },
    )
    a.resume()
    const until = Date.now() + 200
    await eventually('a has come back', () => Date.now() > until)
    await load.stop()
    await closeAll()
    expect(await settle(load, 5)).toEqual([])
  }, 60_000)

  test.each([
    ['every record is seen, in order, none behind the position', undefined, 15],
    ['no record of a stream that comes to an end again and again is left behind', 30, 60],
  ])(
    'for any mix of failures, crashes and handoffs %s',
    async (_, idleMs, everyMs) => {
      const seed = Number(process.env['WORKER_SEED'] ?? Date.now() % 1_000_000)
      const chance = random(seed)
      const behaviour = {
        failEvery: 13,
        handlerMs: 1,
        options: {
          commitEvery: 7,
          commitIntervalMs: 30,
          drainMs: 300,
          abandonAfterMs: 100,
          retry: { attempts: 1000, initialDelayMs: 1, maxDelayMs: 20 },
          idleMs,
        },
      }
      let started = 0
      const living: Program[] = []
      const start = async (): Promise<void> => {
        const program = spawn(`w${started++}`, behaviour)
        living.push(program)
        await program.nextLine((line) => line['type'] === 'started')
      }
      await Promise.all([start(), start(), start()])
      load = new Load(5, everyMs)
      const acts: string[] = []
      for (let n = 0; n < 8; n++) {
        const victim = living[Math.floor(chance() * living.length)] as Program
        const act = ['kill', 'leave', 'hang', 'lose'][Math.floor(chance() * 4)] as string
        acts.push(`${act} ${programs.indexOf(victim)}`)
        if (act === 'hang') {
          victim.pause()
          await later(100 + chance() * 900)
          victim.resume()
        } else if (act === 'lose') {
          const keys = await world.redis.keys('orders-heartbeat:*')
          if (keys.length > 0) await world.redis.del(keys[Math.floor(chance() * keys.length)] as string)
        } else {
          living.splice(living.indexOf(victim), 1)
          void victim.kill(act === 'kill' ? 'SIGKILL' : 'SIGTERM')
          await start()
        }
        await later(chance() * 300)
      }
      await load.stop()
      expect({ seed, acts, problems: await settle(load, 7) }).toEqual({ seed, acts, problems: [] })
    },
    90_000,
  )
})

/** The fence under which each of the first streams was worked on last. */
async function lastFences(streams: number): Promise<number[]> {
  const logs = await Promise.all(Array.from({ length: streams }, (_, n) => readLog(world.redis, `s${n}`)))
  return logs.map((log) => log.at(-1)?.fence ?? 0)
}

async function closeAll(): Promise<void> {
  await eventually(
    'all have committed',
    async () => {
      const committed = await Promise.all(
        [...(load?.ids.keys() ?? [])].map((stream) => readLog(world.redis, stream)),
      )
      return committed.every((log, n) => log.at(-1)?.id === load?.ids.get(`s${n}`)?.at(-1))
    },
    Boolean,
    { timeoutMs: 20_000 },
  )
  await Promise.all(programs.map((program) => program.kill('SIGTERM')))
}

function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** https://github.com/cprosche/mulberry32 */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
