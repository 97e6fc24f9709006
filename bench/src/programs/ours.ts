/** Hosts clients of this library. `settings` are ClientOptions; `claims: false` leaves StreamExpired alone. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type ClientOptions, type OwnedStream, RedisStreamClient } from '@redis-stream-client/client'
import { Redis } from 'ioredis'
import type { OnStream } from '../host-protocol.js'
import { type HostMember, serve } from './host-program.js'
import type { Ledger } from './ledger.js'

/** How long an owner that was asked for a stream goes on with what it does. */
const LEAST_STEP_MS = 20
const GREATEST_STEP_MS = 80

const redis = new Redis(process.argv[2] as string, { lazyConnect: true })

serve(async (member, { service, onStream = 'hold', settings = {} }, ledger) => {
  const client = new RedisStreamClient(redis, service, {
    consumerId: member,
    metrics: { claimAttempt: () => ledger.claimed() },
    ...(settings as ClientOptions),
  })
  const broker = await client.init()
  client.on('session', (state) => {
    if (state === 'lost') ledger.sessionLost()
    if (state === 'held') ledger.sessionRegained()
  })
  void listen()
  return hostMember(client)

  async function listen(): Promise<void> {
    for await (const notification of broker) {
      switch (notification.type) {
        case 'StreamAdded':
          handle(notification.stream, onStream, ledger)
          break
        case 'StreamExpired':
          ledger.expired()
          client.claim(notification.payload).then(
            (stream) => handle(stream, onStream, ledger),
            () => undefined, // somebody was faster
          )
          break
        case 'StreamDisowned':
          ledger.disowned()
          ledger.left(notification.payload.dataStreamName)
          break
        case 'StreamTerminated':
          break
        default:
          notification satisfies never
      }
    }
  }
})

function handle(stream: OwnedStream, onStream: OnStream, ledger: Ledger): void {
  ledger.taken(stream.recovered, stream.additionalInfo['sentAtMs'], stream.dataStreamName)
  switch (onStream) {
    case 'hold':
      break
    case 'hold-and-listen':
      stream.signal.addEventListener('abort', () => void stream.release().catch(ignore))
      break
    case 'hand-over':
      stream.signal.addEventListener('abort', () => void handOver(stream, ledger).catch(ignore))
      break
    case 'done':
      stream.done().then(() => ledger.done(), ignore)
      break
    default:
      onStream satisfies never
  }
}

/** What an application does that listens: it ends the step it is at, commits, and gives the stream back. */
async function handOver(stream: OwnedStream, ledger: Ledger): Promise<void> {
  if (!stream.owned) return
  await sleep(LEAST_STEP_MS + Math.random() * (GREATEST_STEP_MS - LEAST_STEP_MS))
  await stream.commit('handed over')
  ledger.left(stream.dataStreamName)
  await stream.release()
}

function hostMember(client: RedisStreamClient): HostMember {
  return {
    leave: () => client.close(),
    readSignals: () => {
      for (const stream of client.owned.values()) void stream.signal.aborted
    },
  }
}

function ignore(): void {}
