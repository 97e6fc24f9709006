/** A network that loses answers: every command may have been executed without its client knowing. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { OwnedStream } from '@redis-stream-client/client'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { eventually } from './src/support/eventually.js'
import { Fleet } from './src/support/fleet.js'
import type { Member } from './src/support/member.js'
import { Progress } from './src/support/progress.js'
import { RedisServer } from './src/support/redis-server.js'
import { TcpProxy } from './src/support/tcp-proxy.js'

/** Sessions that are lost now and then as well. */
const FAST = { heartbeatTtlMs: 700, lbsIdleTimeMs: 1500, claimStaggerMs: 50 } as const

/** Sessions that are to hold on a busy machine too. */
const STEADY = {
  heartbeatTtlMs: 2500,
  lbsIdleTimeMs: 5000,
  probeIntervalMs: 200,
  claimStaggerMs: 50,
} as const
const KILLS = 1500

// Processes take their time to start on a busy machine.
vi.setConfig({ testTimeout: 60_000 })

let server: RedisServer

const warnings: Error[] = []
process.on('warning', (warning) => warnings.push(warning))

beforeAll(async () => {
  server = await RedisServer.start()
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
})

/** A client whose connections all go through the proxy. */
async function joinThrough(proxy: TcpProxy, fleet: Fleet, name: string, options = {}): Promise<Member> {
  const redis = server.client({ port: proxy.port, lazyConnect: true })
  return await fleet.join(name, { ...options, redis })
}

describe.concurrent('while answers are lost on connections that are killed thousands of times', () => {
  test.each(['manual', 'auto'] as const)(
    'nothing is lost and nothing held by nobody, in %s mode',
    async (claimMode) => {
      await using proxy = await TcpProxy.listen(server)
      const progress = new Progress()
      await using fleet = new Fleet(server, {
        ...FAST,
        claimMode,
        onStream: (stream, member) => progress.workOn(stream, member),
      })
      await Promise.all(['a', 'b', 'c', 'd'].map((name) => joinThrough(proxy, fleet, name)))
      const lossy = loseAnswers(proxy, 0.1)
      const kills = (): number => proxy.connections.filter(({ isOpen }) => !isOpen).length
      let added = 0
      for (let n = 0; kills() < KILLS; n++) {
        // Names come again, and then wait for their turn.
        await fleet.add(`stream-${added++ % 200}`)
        const open = proxy.connections.filter(({ isOpen }) => isOpen)
        proxy.cut(open[n % open.length]?.index)
        await sleep(8)
      }
      lossy.stop()
      await fleet.allDone(25_000)
      expect(progress.served.size).toBe(added)
      expect(progress.violations).toEqual([])
      await eventually(
        'no client believes to own anything',
        () => fleet.holdings().map(({ owner, stream }) => `${owner.name}: ${stream.dataStreamName}`),
        (held) => held.length === 0,
      )
      expect(await fleet.state.deadLetters()).toEqual([])
      expect(fleet.members.flatMap(({ failures }) => failures)).toEqual([])
      expect(warnings).toEqual([])
    },
  )
})

describe.concurrent('when one answer is lost', () => {
  /** A client behind a proxy that owns a stream. */
  async function ownThrough(proxy: TcpProxy, fleet: Fleet): Promise<{ member: Member; stream: OwnedStream }> {
    const member = await joinThrough(proxy, fleet, 'remote')
    await fleet.add('stream')
    return { member, stream: await member.given('stream') }
  }

  /** Loses the answer to the next script that names the stream. */
  function loseNext(proxy: TcpProxy, name: string): void {
    proxy.dropReplies((request) => /evalsha/i.test(request) && request.includes(name))
  }

  test('a read entry is served all the same, once', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const member = await joinThrough(proxy, fleet, 'remote')
    await fleet.allReading()
    for (const [index, command] of ['xreadgroup', 'evalsha'].entries()) {
      const name = `stream-${index}`
      proxy.dropReplies((request) => request.includes(command) && (index === 0 || request.includes(name)))
      await fleet.add(name)
      await member.given(name)
    }
    expect(proxy.repliesDropped).toBe(2)
    expect(member.of('StreamAdded')).toHaveLength(2)
    expect(member.of('StreamDisowned')).toHaveLength(0)
  })

  test('a commit is stored', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const { stream } = await ownThrough(proxy, fleet)
    loseNext(proxy, 'stream')
    const commits = ['one', 'two', 'three'].map((checkpoint) => stream.commit(checkpoint))
    await Promise.all(commits)
    expect(proxy.repliesDropped).toBe(1)
    expect(await fleet.state.checkpoint('stream')).toBe('three')
  })

  test('a stream is done once, and the next of its name is not', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const { member, stream } = await ownThrough(proxy, fleet)
    await fleet.add('stream', { n: 2 })
    await eventually('the second waits', () => fleet.state.backlog('stream'))
    loseNext(proxy, 'stream')
    await member.done(stream)
    expect(proxy.repliesDropped).toBe(1)
    const next = await member.given('stream', stream.fencingToken)
    expect(next).toMatchObject({ additionalInfo: { n: 2 }, owned: true })
    expect(await fleet.state.backlog('stream')).toBe(0)
    expect(await fleet.state.lbsIds()).toEqual([next.idInLbs])
  })

  test('a released stream is offered once', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const { member, stream } = await ownThrough(proxy, fleet)
    const other = await fleet.join('other')
    loseNext(proxy, 'stream')
    await member.release(stream)
    expect(proxy.repliesDropped).toBe(1)
    expect(await other.given('stream')).toMatchObject({ recovered: true })
    expect(member.of('StreamDisowned')).toHaveLength(0)
  })

  test('a claim is won', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const holder = await fleet.join('holder', { onExpired: 'ignore' })
    await fleet.add('stream')
    const held = await holder.given('stream')
    const member = await joinThrough(proxy, fleet, 'remote', { onExpired: 'ignore' })
    await holder.release(held)
    const { payload, previousOwner } = await member.next('StreamExpired')
    expect(previousOwner).toBeNull()
    loseNext(proxy, 'stream')
    const stream = await member.claim(payload)
    expect(proxy.repliesDropped).toBe(1)
    expect(await fleet.state.lock('stream')).toMatchObject({ fencingToken: stream.fencingToken })
    expect(await member.claim(payload)).toBe(stream)
  })

  test.each(['info', 'config', 'evalsha', 'subscribe'])('to %s, init comes about', async (command) => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const redis = server.client({ port: proxy.port, lazyConnect: true, enableReadyCheck: false })
    const member = fleet.make('remote', { redis })
    proxy.dropReplies((request) => new RegExp(`\\$${command.length}\r\n${command}\r\n`, 'i').test(request))
    await member.init()
    await eventually('one answer was lost', () => proxy.repliesDropped === 1)
    await fleet.add('stream')
    await member.given('stream')
  })

  test('the session goes on', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const { member, stream } = await ownThrough(proxy, fleet)
    const key = fleet.state.heartbeatKey(member.client.id)
    for (let lost = 1; lost <= 4; lost++) {
      proxy.dropReplies((request) => request.includes(key))
      await eventually('a heartbeat was lost', () => proxy.repliesDropped === lost)
    }
    await stream.commit('still mine')
    expect(stream.owned).toBe(true)
    expect(member.errors).toEqual([])
  })
})

describe.concurrent('on a connection that is half open', () => {
  test('an owner stops trusting itself on time, and is given the stream again afterwards', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const member = await joinThrough(proxy, fleet, 'remote')
    await fleet.add('stream')
    const stream = await member.given('stream')
    await stream.commit('before')
    let abortedAfterMs = Number.POSITIVE_INFINITY
    const frozenAt = performance.now()
    stream.signal.addEventListener('abort', () => {
      abortedAfterMs = performance.now() - frozenAt
    })
    proxy.freeze()
    await expect(stream.commit('into the void')).rejects.toMatchObject({ code: 'SESSION_LOST' })
    expect(stream.owned).toBe(false)
    await member.next('StreamDisowned', 'stream')
    expect(abortedAfterMs).toBeLessThan(STEADY.heartbeatTtlMs + 1000)
    expect(await fleet.state.checkpoint('stream')).toBe('before')
    proxy.thaw()
    const again = await member.given('stream', stream.fencingToken)
    expect(again).toMatchObject({ owned: true, recovered: true })
  })

  test('a reader finds new entries again, through another connection', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const member = await joinThrough(proxy, fleet, 'remote')
    await fleet.allReading()
    const reads = proxy.connections.filter(({ firstSent }) => firstSent.includes(':reader'))
    expect(reads).toHaveLength(1)
    proxy.freeze(reads[0]?.index)
    await fleet.add('stream')
    await member.given('stream')
    expect(member.errors).toEqual([])
    proxy.thaw()
    await member.done(member.stream('stream') as OwnedStream)
    await fleet.allDone()
  })

  test('what a read was given that nobody waits for any more is served in the end', async () => {
    await using proxy = await TcpProxy.listen(server)
    await using fleet = new Fleet(server, STEADY)
    const member = await joinThrough(proxy, fleet, 'remote', { maxOwnedStreams: 1 })
    await fleet.add('one')
    const first = await member.given('one')
    // At its limit it does not read. Its next read goes into a frozen connection, which it gives up after a while.
    const isReader = ({ firstSent }: { firstSent: string }): boolean => firstSent.includes(':reader')
    const reader = proxy.connections.findLast(isReader)
    proxy.freeze(isReader)
    await member.done(first)
    await eventually('the frozen reader was given up', () => reader?.isOpen === false)
    const id = await fleet.add('two')
    proxy.thaw()
    expect(await member.given('two')).toMatchObject({ idInLbs: id, recovered: false })
  })
})
/** From now on each answer is lost with this chance, and its connection with it. */
function loseAnswers(proxy: TcpProxy, chance: number): { stop: () => void } {
  let isStopped = false
  const arm = (): void =>
    proxy.dropReplies(() => {
      if (isStopped || Math.random() >= chance) return false
      setImmediate(arm)
      return true
    })
  arm()
  return {
    stop: () => {
      isStopped = true
    },
  }
}
