/**
 * Works on all airports one consumer owns: reads their data streams together, counts, commits what was counted, and
 * finishes those that have come to their end.
 *
 *   begun ──> read, commit, read, commit, ... ──> end read ──> result written ──> done
 *         └── owned no longer ──> put down, where it stands
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { OwnedStream } from '@redis-stream-client/client'
import type { Redis } from 'ioredis'
import type { AirportResults } from './airport-results.js'
import { airportOf } from './airport-stream.js'
import { AirportWork } from './airport-work.js'
import { NO_DELAYS } from './delays.js'
import { isRefusal } from './former-owner.js'
import { report } from './reports.js'

/** One read waits for all owned data streams together; one that was taken meanwhile joins the next read. */
const READ_BLOCK_MS = 100
const READ_COUNT = 100
/** A pause between reads, so that each brings the flights of many airports. */
const READ_PAUSE_MS = 25
const COMMIT_EVERY_MS = 200

export class AirportWorker {
  readonly #reads: Redis
  readonly #results: AirportResults
  readonly #works = new Map<string, AirportWork>()

  /** `reads` is blocked while it waits for flights, so it must not be used for anything else. */
  constructor(reads: Redis, results: AirportResults) {
    this.#reads = reads
    this.#results = results
  }

  /** Takes up an owned stream. From now on no earlier owner can write its result. */
  async begin(stream: OwnedStream): Promise<void> {
    const airport = airportOf(stream.additionalInfo)
    const work = new AirportWork(airport, stream)
    report({ type: 'took', airport, atMs: Date.now() })
    if (await this.#writeResult(work, false)) this.#works.set(stream.dataStreamName, work)
  }

  /** Puts down a stream that is not owned any more; answers the work on it, if there was any. */
  putDown(dataStreamName: string): AirportWork | undefined {
    const work = this.#works.get(dataStreamName)
    if (work === undefined || work.stream.owned) return undefined // it is owned again already
    this.#works.delete(dataStreamName)
    return work
  }

  /** Resolves soon after the signal aborts. Rejects if Redis cannot be reached. */
  async run(signal: AbortSignal): Promise<void> {
    let commitAtMs = 0
    while (!signal.aborted) {
      await this.#read()
      await this.#finish()
      if (performance.now() >= commitAtMs) {
        await this.#commit()
        commitAtMs = performance.now() + COMMIT_EVERY_MS
      }
      await sleep(READ_PAUSE_MS)
    }
  }

  /** What is owned; a stream that is lost stays with the works until `putDown`, but nobody works on it. */
  #owned(): AirportWork[] {
    return [...this.#works.values()].filter(({ stream }) => stream.owned)
  }

  async #read(): Promise<void> {
    const works = this.#owned().filter(({ hasEnded }) => !hasEnded)
    if (works.length === 0) return
    // Not looked up by name afterwards: a stream that is lost and won again meanwhile is other work, elsewhere.
    const workOf = new Map(works.map((work) => [work.stream.dataStreamName, work]))
    const positions = works.map(({ position }) => position)
    const [count, block] = [READ_COUNT, READ_BLOCK_MS]
    const keys = [...workOf.keys(), ...positions]
    const answer = await this.#reads.xread('COUNT', count, 'BLOCK', block, 'STREAMS', ...keys)
    for (const [name, entries] of answer ?? []) {
      for (const [position, fields] of entries) workOf.get(name)?.read(position, fields ?? [])
    }
  }

  async #commit(): Promise<void> {
    const works = this.#owned().filter(({ hasNews }) => hasNews)
    const flights: Record<string, number> = {}
    const commits = works.map(async (work) => {
      const counted = work.delays.flights
      await work.commit()
      flights[work.airport] = counted
    })
    await allButRefused(commits)
    if (works.length > 0) report({ type: 'counted', flights })
  }

  async #finish(): Promise<void> {
    const works = this.#owned().filter(({ hasEnded }) => hasEnded)
    const finishes = works.map(async (work) => {
      const { airport, delays, stream } = work
      if (!(await this.#writeResult(work, true))) return
      await stream.done()
      this.#works.delete(stream.dataStreamName)
      report({ type: 'finished', airport, flights: delays.flights })
    })
    await allButRefused(finishes)
  }

  #writeResult({ airport, delays, stream }: AirportWork, isFinal: boolean): Promise<boolean> {
    const result = { delays: isFinal ? delays : NO_DELAYS, isFinal }
    return this.#results.write(airport, stream.fencingToken, result)
  }
}

/** Waits for all. A refusal means that the stream is somebody else's now: StreamDisowned says so, too. */
async function allButRefused(calls: readonly Promise<void>[]): Promise<void> {
  for (const outcome of await Promise.allSettled(calls)) {
    if (outcome.status === 'rejected' && !isRefusal(outcome.reason)) throw outcome.reason
  }
}
