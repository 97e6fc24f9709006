/** What a takeover costs when nothing else is wrong, on the virtual clock: hours of idling take no time here. */
import { describe, expect, it } from 'vitest'
import { RedisStreamClient } from '../../src/index.js'
import type { MetricsRecorder } from '../../src/metrics.js'
import { LBS_FIELD, resolveServiceKeys } from '../../src/service-keys.js'
import { ModelNetwork } from './model-network.js'
import { modelRedis } from './model-redis.js'
import { ModelServer } from './model-server.js'
import { noLogger } from './no-logger.js'
import { Random } from './random.js'
import { type Process, VirtualTime, withVirtualTime } from './virtual-time.js'

const STREAMS = 40
const SURVIVORS = 6
const never = (): boolean => false

class Fleet {
  readonly time = new VirtualTime(new Random(1))
  readonly keys = resolveServiceKeys('orders', { onCluster: false })
  readonly server = new ModelServer({
    wallMs: () => this.time.wallMs,
    later: (ms, act) => this.time.at(this.time.nowMs + ms, null, act),
    watch: {},
    weakness: null,
    ttlShare: 1,
    afterWrite: () => undefined,
  })
  readonly network = new ModelNetwork(this.time, this.server)
  readonly clients: RedisStreamClient[] = []
  readonly #metrics: MetricsRecorder

  constructor(metrics: MetricsRecorder) {
    this.#metrics = metrics
  }

  start(id: string): Process {
    const process = { name: id, isDead: false, pausedUntilMs: 0, rate: 1, wallStepMs: 0 }
    this.time.at(this.time.nowMs, process, () => {
      const client = new RedisStreamClient(modelRedis(this.network, process), 'orders', {
        consumerId: id,
        claimMode: 'auto',
        logger: noLogger,
        metrics: this.#metrics,
      })
      this.clients.push(client)
      void client.init()
    })
    return process
  }

  add(stream: string): void {
    this.server.write((data) =>
      data.xadd(this.keys.lbs, [LBS_FIELD, JSON.stringify({ DataStreamName: stream })]),
    )
  }

  kill(process: Process): void {
    process.isDead = true
    for (const link of this.network.linksOf(process)) link.cut(true)
  }

  async pass(ms: number): Promise<void> {
    await this.time.pass(this.time.nowMs + ms, never)
  }
}

describe('a takeover', () => {
  it.each([0, 10, 90])(
    'asks about one client for each stream, after %d s in which nothing happened',
    async (idleS) => {
      let claims = 0
      const fleet = new Fleet({ claimAttempt: () => claims++ })
      await withVirtualTime(async () => {
        const owner = fleet.start('owner')
        await fleet.pass(100)
        for (let stream = 0; stream < STREAMS; stream++) fleet.add(`s${stream}`)
        await fleet.pass(1000) // a client that has just begun reads slowly
        expect(fleet.clients[0]?.owned.size).toBe(STREAMS)
        for (let survivor = 0; survivor < SURVIVORS; survivor++) fleet.start(`survivor-${survivor}`)
        await fleet.pass(1000 + idleS * 1000)
        fleet.kill(owner)
        await fleet.pass(5000)
      })
      const owned = fleet.clients.slice(1).map((client) => client.owned.size)
      expect(owned.reduce((sum, size) => sum + size)).toBe(STREAMS)
      expect(Math.max(...owned)).toBeLessThan(STREAMS / 2)
      expect(claims).toBeLessThanOrEqual(1.1 * STREAMS)
    },
  )
})
