/**
 * A client in a process of its own. Its one argument says what to connect to and what to do by itself; commands
 * come on stdin, one JSON object per line; what happens is said on stdout. See support/consumer-process.ts.
 */
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { type OwnedStream, RedisStreamClient } from '@redis-stream-client/client'
import { Redis } from 'ioredis'
import type {
  ConsumerCommand,
  ConsumerProcessOptions,
  ConsumerWork,
  WorkNote,
} from '../support/consumer-process.js'

const options = JSON.parse(process.argv[2] ?? '{}') as ConsumerProcessOptions
const redis = new Redis(options.url)
redis.on('error', () => undefined)
const abort = new AbortController()
const streams = new Map<number, OwnedStream>()
const client = makeClient()

createInterface({ input: process.stdin }).on('line', (text) => {
  const command = JSON.parse(text) as ConsumerCommand & { n: number }
  void answer(command.n, () => obey(command))
})
process.stdin.once('end', () => process.exit())
await run()

function makeClient(): RedisStreamClient {
  try {
    const made = new RedisStreamClient(redis, options.service, options.client)
    made.on('session', (state) => say('session', { state }))
    return made
  } catch (error) {
    say('refused', problem(error))
    process.exit(1)
  }
}

async function run(): Promise<void> {
  const startedAt = Date.now()
  try {
    const broker = await client.init({ signal: abort.signal })
    say('ready', { id: client.id, tookMs: Date.now() - startedAt })
    if (options.reads === false) return
    for await (const notification of broker) {
      switch (notification.type) {
        case 'StreamAdded':
          say('StreamAdded', { ...notification.payload })
          give(notification.stream)
          break
        case 'StreamExpired':
          say('StreamExpired', { ...notification.payload, previousOwner: notification.previousOwner })
          if (options.onExpired !== 'ignore') void claim(notification.payload)
          break
        case 'StreamDisowned':
          say('StreamDisowned', { ...notification.payload, reason: notification.reason })
          break
        case 'StreamTerminated':
          say('StreamTerminated', { reason: notification.reason })
          break
        default:
          notification satisfies never
      }
    }
    say('ended', {})
  } catch (error) {
    say('refused', { ...problem(error), tookMs: Date.now() - startedAt })
    process.exitCode = 1
    redis.disconnect()
    process.stdin.destroy()
  }
}

async function claim(payload: Parameters<typeof client.claim>[0]): Promise<void> {
  try {
    give(await client.claim(payload))
  } catch (error) {
    say('claimRefused', { ...payload, ...problem(error) })
  }
}

function give(stream: OwnedStream): void {
  streams.set(stream.fencingToken, stream)
  const { dataStreamName, idInLbs, fencingToken, checkpoint, recovered } = stream
  say('given', { dataStreamName, idInLbs, fencingToken, checkpoint, recovered })
  stream.signal.addEventListener('abort', () =>
    say('aborted', { dataStreamName, fencingToken, ...problem(stream.signal.reason) }),
  )
  if (options.work !== undefined) void work(stream, options.work)
}

/** Writes a note per step, commits, and finishes; a later owner goes on from the checkpoint. */
async function work(stream: OwnedStream, { notesPrefix, steps, stepMs }: ConsumerWork): Promise<void> {
  const { dataStreamName, idInLbs, fencingToken } = stream
  try {
    for (let step = Number(stream.checkpoint ?? 0); step < steps; step++) {
      await sleep(stepMs, undefined, { signal: stream.signal })
      if (!stream.owned) return
      const n = Number(stream.additionalInfo['n'] ?? 0)
      const note: WorkNote = { client: client.id, id: idInLbs, fence: fencingToken, n, step }
      await redis.rpush(`${notesPrefix}:${dataStreamName}`, JSON.stringify(note))
      await stream.commit(String(step + 1))
    }
    await stream.done()
    say('worked', { dataStreamName, fencingToken })
  } catch (error) {
    say('workFailed', { dataStreamName, fencingToken, ...problem(error) })
  }
}

async function obey(command: ConsumerCommand): Promise<Record<string, unknown>> {
  switch (command.call) {
    case 'claim': {
      const stream = await client.claim(command.payload)
      give(stream)
      return { fencingToken: stream.fencingToken }
    }
    case 'commit':
      await streamOf(command.fence).commit(command.checkpoint)
      return {}
    case 'done':
      await streamOf(command.fence).done()
      return {}
    case 'release':
      await streamOf(command.fence).release()
      return {}
    case 'look': {
      const { owned, signal } = streamOf(command.fence)
      return { owned, aborted: signal.aborted, ...problem(signal.reason) }
    }
    case 'stall': {
      // From the next turn on: the answer is to be out before.
      setImmediate(() => {
        const until = performance.now() + command.ms
        while (performance.now() < until);
      })
      return {}
    }
    case 'close':
      await client.close()
      return {}
    case 'leave': {
      if (command.way === 'abort') abort.abort()
      else await client[command.way]()
      // What is left is not ours: without it the process ends by itself.
      redis.disconnect()
      process.stdin.destroy()
      return {}
    }
    case 'health': {
      const { session, owned } = client.health()
      return { session, owned }
    }
    default:
      return command satisfies never
  }
}

function streamOf(fence: number): OwnedStream {
  const stream = streams.get(fence)
  if (stream === undefined) throw new Error(`no stream was given with fence ${fence}`)
  return stream
}

async function answer(n: number, act: () => Promise<Record<string, unknown>>): Promise<void> {
  try {
    say('answer', { n, ok: true, ...(await act()) })
  } catch (error) {
    say('answer', { n, ok: false, ...problem(error) })
  }
}

function problem(error: unknown): { code?: unknown; message?: string } {
  if (error === undefined) return {}
  if (!(error instanceof Error)) return { message: `not an error: ${typeof error}` }
  return { code: 'code' in error ? error.code : undefined, message: error.message }
}

function say(type: string, facts: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify({ type, at: Date.now(), ...facts })}\n`)
}
