/**
 * The program of the fleet: takes streams, does their jobs step by step, commits each, finishes, and writes down what it
 * believes. Commands come on stdin. The package it runs is named by FAULTS_CLIENT, so that a weakened copy can be run.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type * as Client from '@redis-stream-client/client'
import { Redis } from 'ioredis'
import {
  codeOf,
  connectToLedger,
  ignoresSignals,
  note,
  options,
  quiet,
  resources,
  say,
  unreadMs,
  write,
} from './fleet-program.js'
import { monotonicMs } from './history.js'
import { Ledger, STEPS } from './ledger.js'

const SAMPLE_MS = 15
const RELEASE_AFTER_MS = 50
const LINGER_MS = 4000

const begun = new WeakSet<Client.OwnedStream>()
const held = new Set<Client.OwnedStream>()

const { RedisStreamClient } = (await import(
  process.env['FAULTS_CLIENT'] ?? '@redis-stream-client/client'
)) as typeof Client
const redis = quiet(new Redis(options.url, { lazyConnect: true }))
const ledgerRedis = connectToLedger()
const ledger = new Ledger(ledgerRedis)
const client = new RedisStreamClient(redis, options.service, options.client)

client.on('rebalance', ({ role }) => say({ type: 'rebalance', role, at: monotonicMs() }))

setInterval(sample, SAMPLE_MS).unref()
process.once('SIGTERM', leave)

try {
  const broker = await client.init()
  say({ type: 'ready' })
  for await (const notification of broker) {
    if (notification.type === 'StreamAdded') void work(notification.stream)
    if (notification.type === 'StreamExpired') {
      client.claim(notification.payload).then(work, (error: unknown) => refuse('claim', error))
    }
    if (unreadMs() > 0) await sleep(unreadMs())
  }
  say({ type: 'ended' })
} catch (error) {
  say({ type: 'refused', code: codeOf(error), error: String(error) })
  process.exitCode = 1
}
redis.disconnect()
ledgerRedis.disconnect()
process.stdin.destroy()

/** An application that was told of a stream twice and has claimed it twice is given the same stream twice. */
async function work(stream: Client.OwnedStream): Promise<void> {
  if (begun.has(stream)) return
  begun.add(stream)
  const { dataStreamName, idInLbs: id, fencingToken: fence, additionalInfo } = stream
  const job = Number(additionalInfo['job'])
  const isLong = additionalInfo['isLong'] === true
  const { signal } = stream
  const checkpoint = JSON.parse(stream.checkpoint ?? 'null') as { job: number; step: number } | null
  const isTrusted = stream.owned
  const checkpointOf = checkpoint?.job ?? null
  note({
    type: 'given',
    stream: dataStreamName,
    id,
    fence,
    job,
    isTrusted,
    checkpointOf,
    checkpoint: checkpoint?.step ?? null,
  })
  held.add(stream)
  try {
    const firstStep = checkpoint?.job === job ? checkpoint.step + 1 : 0
    for (let step = firstStep; isLong ? !(await ledger.isConcluded()) : step < STEPS; step++) {
      await sleep(options.stepMs)
      if (additionalInfo['hangs'] === true && (await ledger.mayHang(job))) await hang(job)
      if (!stream.owned) return
      if (isLong && signal.aborted && !ignoresSignals()) {
        await stream.release()
        return
      }
      if (!isLong) await ledger.readRecord(job, step)
      if (!(await ledger.append(dataStreamName, { fence, job, step }, client.id))) {
        // A greater fence has been there. Where Redis came back older it may give this one to us once more.
        throw new Error('the ledger refuses this fence')
      }
      await stream.commit(JSON.stringify({ fence, job, step }))
      note({ type: 'committed', id, fence, checkpoint: step })
    }
    if (isLong) await ledger.finish(dataStreamName)
    held.delete(stream)
    await stream.done()
    note({ type: 'done', stream: dataStreamName, fence })
  } catch (error) {
    refuse('work', error)
    await sleep(RELEASE_AFTER_MS)
    held.delete(stream)
    await stream.release().catch((reason: unknown) => refuse('release', reason))
  } finally {
    held.delete(stream)
  }
}

function hang(job: number): Promise<never> {
  say({ type: 'hanging', job })
  return new Promise(() => undefined)
}

function sample(): void {
  const at = monotonicMs()
  const holdings = [...held]
    .filter((stream) => stream.owned)
    .map((stream) => [stream.dataStreamName, stream.fencingToken] as const)
  if (holdings.length > 0) write({ type: 'trusted', at, holdings })
}

/** A process that has not ended after a while says what keeps it. */
function leave(): void {
  void client.close()
  const linger = (): void => say({ type: 'lingering', health: client.health(), resources: resources() })
  setTimeout(linger, LINGER_MS).unref()
}

function refuse(call: string, error: unknown): void {
  note({ type: 'refused', call, code: codeOf(error) })
}
