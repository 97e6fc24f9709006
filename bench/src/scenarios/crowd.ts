/** Many clients of one service, one of which dies. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { type Course, Crowd } from '../crowd.js'
import type { Budget } from '../figure.js'
import { latest } from '../host.js'
import { OURS } from '../peers.js'
import { type RedisWork, totalCalls } from '../redis-meter.js'
import type { Scenario } from '../scenario.js'
import { recorder } from './recorder.js'

const TTL_MS = 2000
const STREAMS_OF_EACH = 10
const CLIENTS = [50, 200, 300]
const RUNS = 2
const REST_MS = 4000
/** Clients that have so long send hardly anything while one measurement lasts. */
const QUIET_TTL_MS = 600_000
const SURVIVORS = 1000
const ANNOUNCED_AGAIN_MS = 500

const SILENT = `a client with ${STREAMS_OF_EACH} streams dies beside ${SURVIVORS} others`
const FEW = '1000 streams of one client killed beside 200 others'
const VERY_MANY = '100000 streams of one client killed beside 200 others'

export const crowd: Scenario = {
  name: 'crowd',
  about: 'one client dies beside 50 to 1,000 others: sessions, time and commands',
  budgets: [
    most(`${SILENT}: commands per stream`, 25),
    most(`${SILENT}: Redis processor time`, 50),
    most(`${SILENT}: announced to all owned again`, 300),
    ...CLIENTS.flatMap((clients) => [
      most(`${deathBeside(clients)}: sessions lost`, 0),
      most(`${deathBeside(clients)}: SIGKILL to all owned again`, TTL_MS + 1000),
    ]),
    most(`${FEW}: SIGKILL to all owned again`, TTL_MS + 700),
    most(`${FEW}: commands per stream`, 7),
    most(`${VERY_MANY}: commands per stream`, 4),
    most(`${VERY_MANY}: Redis processor time per stream`, 100),
    most(`${VERY_MANY}: longest command in Redis`, 2),
  ],
  limitMs: 12 * 60_000,
  run: async (bench) => {
    const attempt = (what: string, measure: () => Promise<void>) => bench.attempt(what, OURS, measure)
    for (const clients of CLIENTS) await attempt(deathBeside(clients), () => deaths(bench, clients))
    await attempt(FEW, () => inheritance(bench, FEW, 1000))
    await attempt(VERY_MANY, () => inheritance(bench, VERY_MANY, 100_000))
    await attempt(SILENT, () => announcement(bench))
  },
}

function most(of: string, limit: number): Budget {
  return { of, statistic: 'max', bound: 'at most', limit }
}

function deathBeside(clients: number): string {
  return `one of ${clients} clients is killed, TTL 2 s`
}

/** Clients with as many streams each, one of which is killed. */
async function deaths(bench: BenchRun, clients: number): Promise<void> {
  const courses: Course[] = []
  for (let run = 0; run < RUNS; run++) {
    await using crowd = await Crowd.open({ clients: clients - 1, ttlMs: TTL_MS })
    await crowd.joinInTurn()
    await crowd.joinVictim()
    await crowd.ownEach(STREAMS_OF_EACH)
    await sleep(TTL_MS + Math.random() * 500)
    courses.push(await crowd.killVictim(60_000))
  }
  const record = recorder(bench, deathBeside(clients))
  record(
    'sessions lost',
    '',
    courses.map(({ sessionsLost }) => sessionsLost),
  )
  record(
    'SIGKILL to all owned again',
    'ms',
    courses.map(({ ms }) => ms),
  )
}

/** One client owns everything; the others own nothing until it is killed. */
async function inheritance(bench: BenchRun, what: string, streams: number): Promise<void> {
  // Otherwise the streams would have been shared out before.
  const settings = { rebalance: 'off' }
  await using crowd = await Crowd.open({ clients: 200, ttlMs: TTL_MS, settings })
  await crowd.joinVictim()
  await crowd.own(streams)
  await crowd.joinInTurn()
  await sleep(TTL_MS)
  const { meter } = crowd.sandbox
  await meter.begin()
  await sleep(REST_MS)
  const rest = await meter.end()
  await meter.begin()
  const course = await crowd.killVictim(120_000)
  const work = await meter.end()
  const beyondRest = (of: (work: RedisWork) => number): number =>
    of(work) - (of(rest) / rest.overMs) * work.overMs
  const commands = beyondRest(({ calls }) => totalCalls(calls)) / streams
  const cpuUs = (beyondRest(({ cpuMs }) => cpuMs) / streams) * 1000
  const record = recorder(bench, what)
  record('sessions lost', '', course.sessionsLost)
  record('SIGKILL to all owned again', 'ms', course.ms)
  record('commands per stream beyond those at rest', '', commands)
  record('Redis processor time per stream beyond that at rest', 'µs', cpuUs)
  record('longest command in Redis', 'ms', work.slowestMs)
}

/**
 * The clients send no heartbeats and look for nobody meanwhile, so all that is counted is for the streams of the dead
 * one. The bench announces its death, as the winner of a round does.
 */
async function announcement(bench: BenchRun): Promise<void> {
  const settings = { keyspaceEvents: 'off', rebalance: 'off' }
  await using crowd = await Crowd.open({ clients: SURVIVORS, ttlMs: QUIET_TTL_MS, settings })
  const { meter, redis } = crowd.sandbox
  await crowd.joinInTurn()
  await crowd.joinVictim()
  await crowd.ownEach(STREAMS_OF_EACH)
  const { consumer, others, streams } = await crowd.ofVictim()
  const goal = crowd.owned
  const announce = JSON.stringify({
    type: 'waiting',
    consumer,
    level: goal / SURVIVORS,
    living: SURVIVORS,
    fill: fillLevel(others, streams),
    pending: streams,
    waiting: streams,
  })
  crowd.loseVictim()
  await redis.del(`${crowd.service}-heartbeat:${consumer.slice(0, consumer.lastIndexOf(':'))}`)
  await sleep(REST_MS)
  await meter.begin()
  const atMs = sharedNowMs()
  // What chance has left over is announced again, as in every round.
  while (crowd.owned < goal) {
    await redis.publish(`${crowd.service}-failover`, announce)
    for (const untilMs = sharedNowMs() + ANNOUNCED_AGAIN_MS; sharedNowMs() < untilMs; ) {
      if (crowd.owned >= goal) break
      await sleep(10)
    }
  }
  await sleep(ANNOUNCED_AGAIN_MS) // those that look once more
  const work = await meter.end()
  const record = recorder(bench, SILENT)
  record('commands per stream', '', totalCalls(work.calls) / streams)
  record('Redis processor time', 'ms', work.cpuMs)
  record('announced to all owned again', 'ms', latest(crowd.hosts, 'lastTakenAtMs') - atMs)
}

/** How many streams those that own least come to when they get what waits. */
function fillLevel(owned: readonly number[], waiting: number): number {
  const sorted = [...owned].sort((a, b) => a - b)
  let sum = waiting
  for (const [index, each] of sorted.entries()) {
    if (index > 0 && sum / index <= each) return sum / index
    sum += each
  }
  return sum / sorted.length
}
