/** One run: a fleet at work, fault after fault drawn from a seed, and the verdict. */
import { setTimeout as sleep } from 'node:timers/promises'
import { eventually } from '@redis-stream-client/test/support/eventually'
import { SeededRandom } from '@redis-stream-client/test/support/seeded-random'
import { monotonicMs } from './history.js'
import { ALONE, ANSWERS, expectProgress, FAULTS, LOSSES } from './nemesis.js'
import { SCALING } from './scaling.js'
import { type Violation, type ViolationKind, violation } from './violation.js'
import type { Holdings } from './worker-process.js'
import { World } from './world.js'

export interface RunOptions {
  readonly seed: number
  readonly durationMs: number
  /** Only these faults, in turn; by default all, drawn by chance. */
  readonly faults?: readonly string[]
  /** Also those with which Redis loses what it has answered. */
  readonly withLosses?: boolean
  /** Also failovers to a replica that lacks the last writes, which is always there, and is waited for. */
  readonly withReplica?: boolean
  /** What the server keeps over a crash; `aof`, or `rdb` with losses. `rdb` is faster: more is under way at once. */
  readonly persistence?: 'aof' | 'rdb'
  /** What the fleet does: jobs or streams without an end with the client, or records with the worker. Default jobs. */
  readonly work?: 'jobs' | 'records' | 'shares'
  /** For how long nothing may move in the end, where streams are shared. */
  readonly restMs?: number
  /** A weakened copy of the package that does it, as the path of its main module. */
  readonly weakenedModule?: string | undefined
  /** End with the first violation of this kind. */
  readonly stopsAt?: ViolationKind
  readonly log?: (line: string) => void
}

export interface Report {
  readonly seed: number
  readonly violations: readonly Violation[]
  readonly remarks: readonly string[]
  readonly faults: Readonly<Record<string, number>>
  readonly counts: Readonly<Record<string, number>>
  /** Errors that Redis answered. */
  readonly answers: Readonly<Record<string, number>>
  /** How often Redis lost writes it had acknowledged. */
  readonly losses: number
  readonly withReplica: boolean
}

const WORKERS = 4
const PRODUCERS = 3
const PRODUCE_EVERY_MS = 30
const WARM_UP_MS = 500
/** Without a step of any job for this long, what is left is lost or stuck. */
const QUIET_MS = 12_000
const FAULT_TIMEOUT_MS = 60_000
const MIXED = 0.3
/** How long what is on its way to be given up may take: timers of calls that were answered, a socket that closes. */
const REST_MS = 6000
const GREATEST_EXCESS = 5
/** Where streams without an end are shared: how often the fleet itself is what changes. */
const SCALING_SHARE = 0.6
const LEAST_REST_MS = 3000
/** Until all have equally many. A client that has crashed again and again is given nothing for a while. */
const EVEN_MS = 60_000
/** Where it is looked for that they do not. */
const UNEVEN_MS = 15_000
const TOLERANCE = 0.1
const GREATEST_GROWTH_BYTES = 12 * 1024 * 1024
/** How often a fault may have had no time to show. */
const ENOUGH_TIMES = 3

export async function run(options: RunOptions): Promise<Report> {
  const { seed, durationMs, weakenedModule, withLosses = false, withReplica = false } = options
  const { log = () => undefined, work = 'jobs' } = options
  const random = new SeededRandom(seed)
  const persistence = options.persistence ?? (withLosses ? 'rdb' : 'aof')
  await using world = await World.start({
    random: random.fork(),
    persistence,
    work,
    weakenedModule,
    withReplica,
  })
  await Promise.all(Array.from({ length: WORKERS }, () => world.addWorker()))
  const producer = startProducers(world)
  const counts: Record<string, number> = {}
  /** Those that were over in good order. */
  const inflicted: Record<string, number> = {}
  await sleep(WARM_UP_MS)
  const untilMs = monotonicMs() + durationMs
  for (let turn = 0; monotonicMs() < untilMs; turn++) {
    const chance = random.fork()
    const names = drawFaults(chance, options, turn, world.work.withoutFaults)
    for (const name of names) counts[name] = (counts[name] ?? 0) + 1
    const label = names.join(' with ')
    log(label)
    await Promise.all(
      names.map(async (name) => {
        if (await inflict(world, name, chance.fork())) inflicted[name] = (inflicted[name] ?? 0) + 1
      }),
    )
    await expectProgress(world, label)
    await world.countAnswers()
    if (await isFound(world, options)) break
  }
  await producer.stop()
  expectAnswers(world, inflicted)
  if (work === 'shares') await expectRest(world, options)
  if (!(await isFound(world, options))) await finish(world)
  return {
    seed,
    violations: await world.verdict(),
    remarks: world.remarks,
    faults: counts,
    counts: world.counts,
    answers: world.answers,
    losses: world.lossesAtMs.length,
    withReplica,
  }
}

/** A fault that was tried again and again without Redis ever saying what it should is none. */
function expectAnswers({ answers, violations }: World, counts: Readonly<Record<string, number>>): void {
  for (const [name, answer] of Object.entries(ANSWERS)) {
    const times = counts[name] ?? 0
    if (times >= ENOUGH_TIMES && answers[answer] === undefined) {
      const text = `${name} was inflicted ${times} times, and Redis never answered ${answer}`
      violations.push(violation('no fault', text))
    }
  }
}

function drawFaults(
  random: SeededRandom,
  { faults, withLosses, withReplica, work }: RunOptions,
  turn: number,
  without: readonly string[],
): string[] {
  if (faults !== undefined) return [faults[turn % faults.length] as string]
  const isOfFleet = work === 'shares' && random.chance(SCALING_SHARE)
  const names = Object.keys(isOfFleet ? SCALING : FAULTS).filter((name) => !without.includes(name))
  if (turn % 2 === 0) {
    if (withReplica) return ['failover']
    if (withLosses) return [random.pick(Object.keys(LOSSES))]
  }
  const drawn = [...new Set([random.pick(names), ...(random.chance(MIXED) ? [random.pick(names)] : [])])]
  return drawn.some((name) => ALONE.has(name)) ? drawn.slice(0, 1) : drawn
}

/** Answers whether the fault was over in good order. */
async function inflict(world: World, name: string, random: SeededRandom): Promise<boolean> {
  const fault = FAULTS[name] ?? SCALING[name] ?? LOSSES[name]
  if (fault === undefined) throw new RangeError(`there is no fault ${name}`)
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not over after ${FAULT_TIMEOUT_MS} ms`)), FAULT_TIMEOUT_MS)
  })
  try {
    await Promise.race([fault(world, random), timeout])
    return true
  } catch (error) {
    // Two faults at once may be in each other's way; what matters is how the workers take it.
    world.remarks.push(`${name}: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`)
    return false
  } finally {
    clearTimeout(timer)
  }
}

function startProducers(world: World): { stop: () => Promise<void> } {
  let isStopped = false
  const produce = async (): Promise<void> => {
    while (!isStopped) {
      await world.work.produce()
      await sleep(PRODUCE_EVERY_MS)
    }
  }
  const producing = Array.from({ length: PRODUCERS }, produce)
  return {
    stop: async () => {
      isStopped = true
      await Promise.all(producing)
    },
  }
}

/** All workers have to come to equally many streams, and then nothing may move for a while. */
async function expectRest(
  world: World,
  { restMs = LEAST_REST_MS, stopsAt }: Pick<RunOptions, 'restMs' | 'stopsAt'>,
): Promise<void> {
  const evenMs = stopsAt === 'restless' ? UNEVEN_MS : EVEN_MS
  const untilMs = monotonicMs() + evenMs + restMs
  let [fences, sinceMs] = ['', monotonicMs()]
  for (;;) {
    const owners = await world.owners()
    const sizes = world.workers.map(({ name }) => {
      return [...owners.values()].filter(({ worker }) => worker === `redis-consumer-${name}`).length
    })
    const now = [...owners].map(([stream, { fence }]) => `${stream} ${fence}`).join()
    if (now !== fences || !areEven(sizes)) [fences, sinceMs] = [now, monotonicMs()]
    if (monotonicMs() > sinceMs + restMs) return
    if (monotonicMs() > untilMs) {
      const text = `streams still move, or are not shared evenly, after ${evenMs} ms: ${sizes.join(', ')}`
      return void world.violations.push(violation('restless', text))
    }
    await sleep(25)
  }
}

function areEven(sizes: readonly number[]): boolean {
  const mean = sizes.reduce((sum, size) => sum + size, 0) / sizes.length
  return sizes.every((size) => Math.abs(size - mean) <= Math.max(1, TOLERANCE * mean))
}

/** Everything that was added has to be done, every worker has to end, nothing may be left in Redis. */
async function finish(world: World): Promise<void> {
  await world.work.conclude?.()
  let untilMs = monotonicMs() + QUIET_MS
  for (;;) {
    if (await world.work.read()) untilMs = monotonicMs() + QUIET_MS
    const left = world.work.outstanding()
    if (left.size === 0) break
    if (monotonicMs() > untilMs) {
      const texts = [...left].map(([stream, what]) => `${what.slice(0, 10).join(', ')} of ${stream}`)
      world.violations.push(violation('lost', `not done: ${texts.slice(0, 10).join('; ')}`))
      world.remarks.push(...(await world.describe([...left.keys()].slice(0, 10))))
      break
    }
    await sleep(25)
  }
  let left: string[] = []
  while (monotonicMs() < untilMs) {
    left = await world.leftovers()
    if (left.length === 0) break
    await sleep(25)
  }
  if (left.length > 0) {
    world.violations.push(violation('left over', left.join(', ')))
    world.remarks.push(...(await world.describe(await world.lockedStreams())))
  }
  if (left.length === 0) {
    await world.work.readResults()
    await expectNoGrowth(world)
  }
  await Promise.all([...world.workers].map((worker) => world.dismissWorker(worker)))
}

/** With nothing left to do, a process that has been through all faults must hold no more than a new one. */
async function expectNoGrowth(world: World): Promise<void> {
  const newcomer = await world.addWorker()
  const usual = await newcomer.holdings()
  for (const worker of world.workers) {
    let excess: string[] = []
    await eventually(
      `${worker.name} holds no more than ${newcomer.name}`,
      async () => {
        excess = findExcess(await worker.holdings(), usual)
      },
      () => excess.length === 0,
      { timeoutMs: REST_MS, everyMs: 100 },
    ).catch(() => world.violations.push(violation('grown', `${worker.name}: ${excess.join(', ')}`)))
  }
}

function findExcess({ heapBytes, resources }: Holdings, usual: Holdings): string[] {
  const excess = Object.entries(resources)
    .filter(([kind, count]) => count > (usual.resources[kind] ?? 0) + GREATEST_EXCESS)
    .map(([kind, count]) => `${count} ${kind}, usually ${usual.resources[kind] ?? 0}`)
  if (heapBytes > usual.heapBytes + GREATEST_GROWTH_BYTES) {
    excess.push(`${heapBytes} bytes of heap, usually ${usual.heapBytes}`)
  }
  return excess
}

/** Whether what the run looks for has been found. */
async function isFound(world: World, { stopsAt }: RunOptions): Promise<boolean> {
  return stopsAt !== undefined && (await world.verdict()).some(({ kind }) => kind === stopsAt)
}
