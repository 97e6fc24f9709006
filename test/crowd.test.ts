/** Many clients that lose their sessions at the same moment. */
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import { RedisServer } from './src/support/redis-server.js'

const CLIENTS = 40
const STREAMS = 80
const TTL_MS = 2000
/** For each client: its own beginning, and what it hears of the others, gathered. About 3 are needed. */
const ROSTERS_PER_CLIENT = 8

test('a crowd that loses all sessions at once comes back, without each client reading of each other', {
  timeout: 120_000,
}, async () => {
  await using server = await RedisServer.start()
  await using fleet = new Fleet(server, {
    heartbeatTtlMs: TTL_MS,
    lbsIdleTimeMs: 2 * TTL_MS,
    claimMode: 'auto',
  })
  const names = Array.from({ length: STREAMS }, (_, index) => `stream-${index}`)
  await Promise.all(Array.from({ length: CLIENTS }, (_, index) => fleet.join(`client-${index}`)))
  await fleet.addAll(names)
  await fleet.allOwned(names)
  server.pause()
  await delay(1.5 * TTL_MS)
  server.resume()
  const isBack = (): boolean => fleet.members.every(({ client }) => client.health().session === 'held')
  await eventually('all clients have a session again', isBack, Boolean, { timeoutMs: 30_000 })
  await fleet.allOwned(names)
  const stats = await fleet.redis.info('commandstats')
  const rosters = Number(/^cmdstat_xinfo(?:\|consumers)?:calls=(\d+)/m.exec(stats)?.[1])
  expect(rosters).toBeLessThan(ROSTERS_PER_CLIENT * CLIENTS)
  const consumers = await fleet.state.consumers()
  const leftOver = consumers.filter(({ isAlive, pending }) => !isAlive && pending === 0)
  expect(leftOver.length).toBeLessThan(CLIENTS)
})
