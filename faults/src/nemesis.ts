/**
 * The faults, each as something that is done to a world and is over when its promise resolves. Each draws from a chance of
 * its own, so that what it does depends on nothing that happens beside it.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { eventually } from '@redis-stream-client/test/support/eventually'
import type { SeededRandom } from '@redis-stream-client/test/support/seeded-random'
import type { ProxiedConnection, Which } from '@redis-stream-client/test/support/tcp-proxy'
import { violation } from './violation.js'
import type { WorkerProcess } from './worker-process.js'
import { SERVICE, TTL_MS, type World } from './world.js'

export type Fault = (world: World, random: SeededRandom) => Promise<void>

/** Those that read the LBS, and those of a worker that read data streams. */
const READERS = /:reader(-\d+)?$/
const SUBSCRIBERS = /:hints$/
const HANG_TIMEOUT_MS = 10_000
const REWRITE_TIMEOUT_MS = 10_000
/** A heartbeat and its answer are about 200 bytes. */
const BYTES_PER_SECOND = [400, 4000] as const
const BALLAST_KEYS = 400
const BALLAST_BYTES = 64

/** Faults that cost Redis nothing it has answered. */
export const FAULTS: Readonly<Record<string, Fault>> = {
  async kill(world, random) {
    await world.killWorker(pick(world, random))
    await world.addWorker()
  },
  async killAndComeBackUnderTheSameName(world, random) {
    const worker = pick(world, random)
    await world.killWorker(worker)
    await world.addWorker(worker.name)
  },
  async killUnheard(world, random) {
    await withoutEvents(world, async () => {
      await world.killWorker(pick(world, random))
      await expectProgress(world, 'a kill that no event told of')
    })
    await world.addWorker()
  },
  async pauseBriefly(world, random) {
    await pause(pick(world, random), random.between(0.2, 0.8) * TTL_MS)
  },
  async pauseLong(world, random) {
    await pause(pick(world, random), random.between(1.2, 3) * TTL_MS)
  },
  async stall(world, random) {
    const ms = random.between(0.3, 2) * TTL_MS
    pick(world, random).tell({ type: 'stall', ms })
    await sleep(ms)
  },
  async cut(world, random) {
    const { proxy } = pick(world, random)
    for (let times = 0; times < 3; times++) {
      proxy.cut()
      await sleep(random.between(0, TTL_MS / 2))
    }
  },
  async cutOne(world, random) {
    const { proxy } = pick(world, random)
    const open = proxy.connections.filter(({ isOpen }) => isOpen)
    if (open.length > 0) proxy.cut(random.pick(open).index)
  },
  async refuse(world, random) {
    const { proxy } = pick(world, random)
    await proxy.refuse()
    proxy.cut()
    await sleep(random.between(0.2, 2) * TTL_MS)
    await proxy.accept()
  },
  async freeze(world, random) {
    await freezeThose(world, random)
  },
  async freezeForLong(world, random) {
    const { proxy } = pick(world, random)
    proxy.freeze()
    await sleep(2.5 * TTL_MS)
    proxy.thaw()
  },
  async freezeAll(world, random) {
    for (const { proxy } of world.workers) proxy.freeze()
    await sleep(random.between(1.2, 2) * TTL_MS)
    for (const { proxy } of world.workers) proxy.thaw()
  },
  async freezeOne(world, random) {
    const { proxy } = pick(world, random)
    const open = proxy.connections.filter(({ isOpen }) => isOpen)
    if (open.length === 0) return
    proxy.freeze(random.pick(open).index)
    await sleep(random.between(0.3, 2.5) * TTL_MS)
    proxy.thaw()
  },
  async freezeReader(world, random) {
    await freezeThose(world, random, isFor('reader'))
  },
  async freezeHeartbeat(world, random) {
    await freezeThose(world, random, isFor('heartbeat'))
  },
  async throttle(world, random) {
    await throttleThose(world, random)
  },
  async throttleOne(world, random) {
    const { proxy } = pick(world, random)
    const open = proxy.connections.filter(({ isOpen }) => isOpen)
    if (open.length === 0) return
    proxy.throttle(random.between(...BYTES_PER_SECOND), random.pick(open).index)
    await sleep(2 * TTL_MS)
    proxy.throttle(0)
  },
  async throttleReader(world, random) {
    await throttleThose(world, random, isFor('reader'))
  },
  async throttleHeartbeat(world, random) {
    await throttleThose(world, random, isFor('heartbeat'))
  },
  async delay(world, random) {
    const { proxy } = pick(world, random)
    proxy.delay(random.between(10, 150))
    await sleep(2 * TTL_MS)
    proxy.delay(0)
  },
  async delayThenFreeze(world, random) {
    const { proxy } = pick(world, random)
    proxy.delay(130)
    await sleep(1.5 * TTL_MS)
    proxy.freeze()
    await sleep(2 * TTL_MS)
    proxy.delay(0)
    proxy.thaw()
  },
  async dropReplies(world, random) {
    const { proxy } = pick(world, random)
    for (let times = 0; times < 4; times++) {
      proxy.dropReplies((request) => /evalsha|xreadgroup/i.test(request))
      await sleep(random.between(20, 200))
    }
  },
  async killReaders(world) {
    await killConnections(world, READERS)
  },
  async killSubscribers(world) {
    await killConnections(world, SUBSCRIBERS)
  },
  async restart(world) {
    await world.server.restart({ data: 'saved' })
  },
  async loading(world, random) {
    // Foreign keys that take long to load: LOADING, until they are.
    const { redis, server } = world
    const names = Array.from({ length: BALLAST_KEYS }, (_, index) => `ballast:${index}`)
    await redis.mset(names.flatMap((name) => [name, 'x'.repeat(BALLAST_BYTES)]))
    await redis.bgrewriteaof().catch(() => undefined) // an append-only file is loaded as it was written, otherwise
    await eventually(
      'the append-only file is written',
      async () => await redis.info('persistence'),
      (info) => !/aof_rewrite_(in_progress|scheduled):1/.test(info),
      { timeoutMs: REWRITE_TIMEOUT_MS },
    )
    const microsecondsPerKey = Math.round((random.between(0.2, 1.5) * TTL_MS * 1000) / BALLAST_KEYS)
    const slowly = [
      '--key-load-delay',
      `${microsecondsPerKey}`,
      '--loading-process-events-interval-bytes',
      '1024',
    ]
    await server.restart({ data: 'saved', args: slowly }).catch(async (error: unknown) => {
      await server.startAgain() // Redis 6.2 cannot be made to answer while it loads
      throw error
    })
    await eventually('the ballast is gone', () => redis.unlink(...names).then(() => true))
  },
  async stepClock(world, random) {
    pick(world, random).tell({ type: 'clock', stepMs: random.between(-10, 10) * TTL_MS })
  },
  async deploy(world, random) {
    for (const worker of [...world.workers]) {
      const keepsName = random.chance(0.5)
      if (!world.workers.includes(worker)) continue // another fault has killed it meanwhile
      await Promise.all([world.dismissWorker(worker), keepsName ? undefined : world.addWorker()])
      if (keepsName) await world.addWorker(worker.name)
    }
  },
  async twin(world, random) {
    const { name } = pick(world, random)
    await world.seesSessionOf(name)
    const twin = await world.addWorker(name, false)
    const line = await twin.program.nextLine(
      ({ type }) => type === 'refused' || type === 'ready',
      HANG_TIMEOUT_MS,
    )
    if (line['code'] !== 'CONSUMER_ID_IN_USE')
      world.violations.push(violation('twin accepted', `it was told ${JSON.stringify(line)}`))
    await world.killWorker(twin)
  },
  async unread(world, random) {
    const ms = random.between(0.5, 2) * TTL_MS
    pick(world, random).tell({ type: 'unread', ms })
    await sleep(ms)
  },
  async hang(world, random) {
    const job = await world.work.addHanging(Math.floor(random.between(1, 1e6)))
    const holder = await world.holderThatHangs(job, HANG_TIMEOUT_MS)
    if (holder === undefined) throw new Error('no handler hangs: nobody took the job, or who did was killed')
    await Promise.all([world.dismissWorker(holder), world.addWorker()])
  },
  async outOfMemory(world, random) {
    await withConfig(world, random, 'maxmemory', '1mb', '0')
  },
  async readOnly(world, random) {
    await world.redis.call('REPLICAOF', '127.0.0.1', '1')
    await sleep(random.between(0.2, 1.5) * TTL_MS)
    await world.redis.call('REPLICAOF', 'NO', 'ONE')
  },
  async noReplicas(world, random) {
    await withConfig(world, random, 'min-replicas-to-write', '2', '0')
  },
  async failingSnapshots(world, random) {
    // A folder stands where the snapshot has to go: MISCONF, until a snapshot succeeds.
    const { redis, server } = world
    const file = join(server.dir, 'dump.rdb')
    const [, save = ''] = (await redis.config('GET', 'save')) as string[]
    await rm(file, { recursive: true, force: true })
    await mkdir(join(file, 'in the way'), { recursive: true })
    try {
      await redis.config('SET', 'save', '3600 1')
      await redis.bgsave()
      await sleep(random.between(0.2, 1.5) * TTL_MS)
    } finally {
      await rm(file, { recursive: true, force: true })
      await redis.save()
      await redis.config('SET', 'save', save)
    }
  },
  async busy(world, random) {
    await world.redis.config('SET', 'lua-time-limit', '20')
    const loop = world.redis.eval('while true do end', 0).catch(() => undefined)
    await sleep(random.between(0.1, 0.6) * TTL_MS)
    // A busy server would not pass the check that a connection waits for.
    const killer = world.server.client({ enableReadyCheck: false })
    try {
      await eventually('the script is killed', () => killer.script('KILL'))
    } finally {
      killer.disconnect()
    }
    await loop
  },
  async flushScripts(world) {
    await world.redis.script('FLUSH')
  },
  async hangServer(world, random) {
    world.server.pause()
    await sleep(random.between(0.2, 2) * TTL_MS)
    world.server.resume()
  },
}

/** What Redis has to answer at some time under these faults, or they do nothing. */
export const ANSWERS: Readonly<Record<string, string>> = {
  busy: 'BUSY',
  failingSnapshots: 'MISCONF',
  loading: 'LOADING',
  noReplicas: 'NOREPLICAS',
  outOfMemory: 'OOM',
  readOnly: 'READONLY',
}

/** What these find is only so while nothing else happens. */
export const ALONE: ReadonlySet<string> = new Set(['twin'])

/** Faults with which Redis loses what it has answered. */
export const LOSSES: Readonly<Record<string, Fault>> = {
  async comeBackEmpty(world) {
    await world.server.restart({ data: 'empty' })
    await world.noteLoss()
  },
  async comeBackOlder(world, random) {
    await world.redis.save()
    await sleep(random.between(50, 500))
    await world.server.restart({ crash: true })
    await world.noteLoss()
  },
  async failover(world, random) {
    // More often than not the sessions outlast it: that is where most can go wrong.
    const awayMs = Math.max(0, random.between(-0.5, 1.5)) * TTL_MS
    await world.failOver({ behindMs: random.between(50, 600), awayMs })
    await world.noteLoss()
  },
}

/** How long it may take until every stream is worked on again after a fault: generous, for the machine may be busy. */
const RECOVERY_MS = 6 * TTL_MS + 4000

export async function expectProgress(world: World, after: string): Promise<void> {
  const stuck = await world.waitForProgress(RECOVERY_MS)
  if (stuck.length > 0) {
    const text = `${RECOVERY_MS} ms after ${after} nobody works on ${stuck.join(', ')}`
    world.violations.push(violation('stuck', text))
    world.remarks.push(...(await world.describe(stuck)))
  }
}

function pick({ workers }: World, random: SeededRandom): WorkerProcess {
  return random.pick(workers)
}

async function pause({ program }: WorkerProcess, ms: number): Promise<void> {
  program.pause()
  await sleep(ms)
  program.resume()
}

/** The connections of a worker for one purpose, those it makes meanwhile too. */
function isFor(purpose: 'reader' | 'heartbeat'): (connection: ProxiedConnection) => boolean {
  return ({ firstSent }) => firstSent.includes(`:${purpose}`)
}

async function freezeThose(world: World, random: SeededRandom, which?: Which): Promise<void> {
  const { proxy } = pick(world, random)
  proxy.freeze(which)
  await sleep(random.between(0.3, 2.5) * TTL_MS)
  proxy.thaw()
}

async function throttleThose(world: World, random: SeededRandom, which?: Which): Promise<void> {
  const { proxy } = pick(world, random)
  proxy.throttle(random.between(...BYTES_PER_SECOND), which)
  await sleep(2 * TTL_MS)
  proxy.throttle(0)
}

async function withConfig(
  { redis }: World,
  random: SeededRandom,
  name: string,
  value: string,
  usual: string,
): Promise<void> {
  await redis.config('SET', name, value)
  await sleep(random.between(0.2, 1.5) * TTL_MS)
  await redis.config('SET', name, usual)
}

async function killConnections({ redis }: World, which: RegExp): Promise<void> {
  const list = String(await redis.client('LIST'))
  for (const [, id, name] of list.matchAll(/^id=(\d+) .*? name=(\S*)/gm)) {
    if (name?.startsWith(`${SERVICE}:`) && which.test(name)) await redis.client('KILL', 'ID', Number(id))
  }
}

/** While `act` runs, no keyspace event and no published message reaches anybody. */
async function withoutEvents(world: World, act: () => Promise<void>): Promise<void> {
  let isOver = false
  const deafening = (async (): Promise<void> => {
    while (!isOver) {
      await world.redis.config('SET', 'notify-keyspace-events', '').catch(() => undefined)
      await killConnections(world, SUBSCRIBERS).catch(() => undefined)
      await sleep(10)
    }
  })()
  try {
    await act()
  } finally {
    isOver = true
    await deafening
  }
}
