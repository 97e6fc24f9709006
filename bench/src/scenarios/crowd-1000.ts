/** A thousand clients of one service: one dies, all begin at the same moment, all lose Redis for longer than their TTL. */
import { setTimeout as sleep } from 'node:timers/promises'
import { addStreams } from '../assignments.js'
import type { BenchRun } from '../bench-run.js'
import { sharedNowMs } from '../clock.js'
import { Crowd } from '../crowd.js'
import type { Budget } from '../figure.js'
import { latest } from '../host.js'
import { OURS } from '../peers.js'
import type { Scenario } from '../scenario.js'
import { recorder } from './recorder.js'

const CLIENTS = 1000
const STREAMS_OF_EACH = 10
const STREAMS = CLIENTS * STREAMS_OF_EACH
const TTL_MS = 10_000
const SILENCE_MS = 12_000
const SETTLE_MS = 5000
const PATIENCE_MS = 60_000

const DEATH = `one of ${CLIENTS} clients is killed, TTL ${TTL_MS / 1000} s`
const START = `${CLIENTS} clients begin at the same moment, ${STREAMS} streams wait`
const SILENCE = `Redis answers nobody for ${SILENCE_MS / 1000} s, ${CLIENTS} clients`

export const crowd1000: Scenario = {
  name: 'crowd-1000',
  about: `${CLIENTS} clients in 4 processes: one dies, all begin together, all lose Redis`,
  isLong: true,
  budgets: [
    most(`${DEATH}: sessions lost`, 0),
    most(`${DEATH}: SIGKILL to all owned again`, TTL_MS + 1000),
    most(`${START}: clients that could not begin`, 0),
    most(`${START}: sessions lost`, 0),
    most(`${START}: all owned`, 12_000),
    most(`${SILENCE}: sessions lost twice`, 0),
    most(`${SILENCE}: all owned again after its answer`, 15_000),
  ],
  limitMs: 6 * 60_000,
  run: async (bench) => {
    await bench.attempt(DEATH, OURS, () => death(bench))
    await bench.attempt(START, OURS, () => start(bench))
    await bench.attempt(SILENCE, OURS, () => silence(bench))
  },
}

function most(of: string, limit: number): Budget {
  return { of, statistic: 'max', bound: 'at most', limit }
}

async function death(bench: BenchRun): Promise<void> {
  await using crowd = await Crowd.open({ clients: CLIENTS - 1, ttlMs: TTL_MS })
  await crowd.joinInTurn()
  await crowd.joinVictim()
  await crowd.ownEach(STREAMS_OF_EACH)
  await sleep(SETTLE_MS)
  const { ms, sessionsLost } = await crowd.killVictim(PATIENCE_MS)
  const record = recorder(bench, DEATH)
  record('sessions lost', '', sessionsLost)
  record('SIGKILL to all owned again', 'ms', ms)
}

async function start(bench: BenchRun): Promise<void> {
  await using crowd = await Crowd.open({ clients: CLIENTS, ttlMs: TTL_MS })
  await addStreams(crowd.sandbox.redis, crowd.service, STREAMS)
  const beganAtMs = sharedNowMs()
  const joins = crowd.joinTogether()
  await crowd.untilOwned(STREAMS, PATIENCE_MS)
  const ownedAtMs = latest(crowd.hosts, 'lastTakenAtMs')
  const record = recorder(bench, START)
  record('clients that could not begin', '', await joins)
  record('last client ready', 'ms', crowd.lastJoinedAtMs - beganAtMs)
  record('sessions lost', '', crowd.sessionsLost)
  record('all owned', 'ms', ownedAtMs - beganAtMs)
}

async function silence(bench: BenchRun): Promise<void> {
  await using crowd = await Crowd.open({ clients: CLIENTS, ttlMs: TTL_MS })
  await crowd.joinInTurn()
  await crowd.ownEach(STREAMS_OF_EACH)
  await sleep(SETTLE_MS)
  const { server } = crowd.sandbox
  server.pause()
  await sleep(SILENCE_MS)
  server.resume()
  const resumedAtMs = sharedNowMs()
  await crowd.untilOwned(STREAMS, PATIENCE_MS)
  await crowd.until('all sessions are held', () => crowd.isEverySessionHeld, PATIENCE_MS)
  const backAtMs = latest(crowd.hosts, 'lastTakenAtMs')
  await sleep(TTL_MS) // nor does one fall later
  const record = recorder(bench, SILENCE)
  record('sessions lost', '', crowd.sessionsLost)
  record('sessions lost twice', '', crowd.lostTwice)
  record('all owned again after its answer', 'ms', backAtMs - resumedAtMs)
}
